//! F4, F7, F8, F9: registers written with the wrong values, widths, places and times.

use super::Case;
use crate::driver::{Device, Queue, SIZE, VERSION_1, common, status};
use crate::honest;
use crate::memory::Page;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F4 queue size 0",
        attack: |device| size(device, 0),
    },
    Case {
        name: "F4 queue size 3",
        attack: |device| size(device, 3),
    },
    Case {
        name: "F4 queue size 0x8000",
        attack: |device| size(device, 0x8000),
    },
    Case {
        name: "F4 queue size 65,535",
        attack: |device| size(device, 65_535),
    },
    Case {
        name: "F4 descriptor table unaligned",
        attack: |device| ring(device, common::QUEUE_DESC, |at| at + 8),
    },
    Case {
        name: "F4 available ring unaligned",
        attack: |device| ring(device, common::QUEUE_DRIVER, |at| at + 1),
    },
    Case {
        name: "F4 used ring unaligned",
        attack: |device| ring(device, common::QUEUE_DEVICE, |at| at + 2),
    },
    Case {
        name: "F4 descriptor table past memory",
        attack: |device| ring(device, common::QUEUE_DESC, |_| 1 << 40),
    },
    Case {
        name: "F4 available ring in a hole",
        attack: |device| ring(device, common::QUEUE_DRIVER, |_| 0xd800_0000),
    },
    Case {
        name: "F4 used ring at the end of the address space",
        attack: |device| ring(device, common::QUEUE_DEVICE, |_| u64::MAX - 3),
    },
    Case {
        name: "F7 queue moved after DRIVER_OK",
        attack: moved,
    },
    Case {
        name: "F7 queue resized after DRIVER_OK",
        attack: resized,
    },
    Case {
        name: "F7 queue enabled with 0 after DRIVER_OK",
        attack: disabled,
    },
    Case {
        name: "F7 features written after FEATURES_OK",
        attack: late_features,
    },
    Case {
        name: "F7 features that were not offered",
        attack: unoffered_features,
    },
    Case {
        name: "F7 without VERSION_1",
        attack: legacy_features,
    },
    Case {
        name: "F7 DRIVER_OK without FEATURES_OK",
        attack: skipped,
    },
    Case {
        name: "F7 DRIVER_OK without a queue",
        attack: no_queue,
    },
    Case {
        name: "F7 all status bits at once",
        attack: all_bits,
    },
    Case {
        name: "F7 doorbell before DRIVER_OK",
        attack: early_doorbell,
    },
    Case {
        name: "F7 doorbells of every queue number",
        attack: doorbells,
    },
    Case {
        name: "F7 reset during a request",
        attack: reset_during_request,
    },
    Case {
        name: "F7 a hundred resets",
        attack: many_resets,
    },
    Case {
        name: "F7 registers of queues that do not exist",
        attack: no_such_queue,
    },
    Case {
        name: "F7 device configuration written",
        attack: configuration,
    },
    Case {
        name: "F8 configuration space read in every width",
        attack: read_config,
    },
    Case {
        name: "F8 configuration space written with ones",
        attack: write_config,
    },
    Case {
        name: "F8 BAR moved onto memory",
        attack: |device| move_bar(device, 0x10_0000),
    },
    Case {
        name: "F8 BAR moved onto the local APIC",
        attack: |device| move_bar(device, 0xfee0_0000),
    },
    Case {
        name: "F8 BAR moved to the end of the address space",
        attack: |device| move_bar(device, u64::MAX),
    },
    Case {
        name: "F8 memory decoding turned off during use",
        attack: decoding,
    },
    Case {
        name: "F9 MSI-X table of nonsense, unmasked",
        attack: msix_table,
    },
    Case {
        name: "F9 MSI-X vectors past the table",
        attack: vectors,
    },
    Case {
        name: "F9 registers read in every width, straddling",
        attack: read_registers,
    },
    Case {
        name: "F9 registers written with ones in every width",
        attack: write_registers,
    },
];

/// A size that is not a power of two up to the queue's own may not enable it.
fn size(device: &Device, size: u16) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    let mut queue = Queue::new(0, SIZE)?;
    device.set(common::QUEUE_SELECT, 2, 0);
    let largest = device.get(common::QUEUE_SIZE, 2);
    queue.size = size;
    device.place(&queue);
    device.set(common::QUEUE_ENABLE, 2, 1);
    let now = device.get(common::QUEUE_SIZE, 2);
    let sound = now.is_power_of_two() && now <= largest;
    let enabled = device.get(common::QUEUE_ENABLE, 2);
    device.reset()?;
    if enabled == 0 || sound {
        Ok(())
    } else {
        Err(format!("enabled with size {now}"))
    }
}

/// A ring that is not aligned or not in memory may not be enabled.
fn ring(device: &Device, register: usize, place: fn(u64) -> u64) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    let queue = Queue::new(0, SIZE)?;
    device.place(&queue);
    let good = device.get(register, 4) | device.get(register + 4, 4) << 32;
    let bad = place(good);
    device.set(register, 4, bad & 0xffff_ffff);
    device.set(register + 4, 4, bad >> 32);
    device.set(common::QUEUE_ENABLE, 2, 1);
    let enabled = device.get(common::QUEUE_ENABLE, 2);
    device.reset()?;
    if enabled == 0 {
        Ok(())
    } else {
        Err(format!("enabled with a ring at {bad:#x}"))
    }
}

/// Starts the device, does something, and wants the device to answer as if nothing had been done.
fn undisturbed(device: &Device, act: impl FnOnce(&[Queue])) -> Result<(), String> {
    let mut queues = device.start(VERSION_1)?;
    act(&queues);
    let outcome = if device.status() & status::NEEDS_RESET == 0 {
        honest::answers(device, &mut queues)
    } else {
        Ok(())
    };
    device.reset()?;
    outcome
}

fn moved(device: &Device) -> Result<(), String> {
    let elsewhere = Page::new()?;
    undisturbed(device, |queues| {
        for queue in queues {
            device.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
            for register in [
                common::QUEUE_DESC,
                common::QUEUE_DRIVER,
                common::QUEUE_DEVICE,
            ] {
                device.set(register, 4, elsewhere.physical() & 0xffff_ffff);
                device.set(register + 4, 4, u64::MAX);
            }
        }
    })
}

fn resized(device: &Device) -> Result<(), String> {
    undisturbed(device, |queues| {
        for queue in queues {
            device.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
            for size in [0, 1, 3, 0x8000, 0xffff] {
                device.set(common::QUEUE_SIZE, 2, size);
            }
        }
    })
}

fn disabled(device: &Device) -> Result<(), String> {
    undisturbed(device, |queues| {
        for queue in queues {
            device.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
            device.set(common::QUEUE_ENABLE, 2, 0);
        }
    })
}

fn late_features(device: &Device) -> Result<(), String> {
    undisturbed(device, |_| {
        for select in 0..4 {
            device.set(common::DRIVER_FEATURE_SELECT, 4, select);
            device.set(common::DRIVER_FEATURE, 4, u64::MAX);
        }
    })
}

fn begin(device: &Device, features: [u64; 4]) -> Result<(), String> {
    device.reset()?;
    device.set(common::STATUS, 1, status::ACKNOWLEDGE | status::DRIVER);
    for (select, word) in (0..).zip(features) {
        device.set(common::DRIVER_FEATURE_SELECT, 4, select);
        device.set(common::DRIVER_FEATURE, 4, word);
    }
    device.set(
        common::STATUS,
        1,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK,
    );
    Ok(())
}

fn refused(device: &Device) -> Result<(), String> {
    let now = device.status();
    device.reset()?;
    if now & status::FEATURES_OK == 0 {
        Ok(())
    } else {
        Err(format!("accepted: status {now:#x}"))
    }
}

fn unoffered_features(device: &Device) -> Result<(), String> {
    begin(device, [0xffff_ffff; 4])?;
    refused(device)
}

fn legacy_features(device: &Device) -> Result<(), String> {
    begin(device, [0; 4])?;
    refused(device)
}

fn skipped(device: &Device) -> Result<(), String> {
    device.reset()?;
    device.set(common::STATUS, 1, status::DRIVER_OK);
    device.set(
        common::STATUS,
        1,
        status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK,
    );
    device.reset()
}

fn no_queue(device: &Device) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    let now = device.status();
    device.set(common::STATUS, 1, now | status::DRIVER_OK);
    doorbells(device)?;
    device.reset()
}

fn all_bits(device: &Device) -> Result<(), String> {
    device.reset()?;
    device.set(common::STATUS, 1, 0xff);
    device.set(common::STATUS, 1, 0x7f);
    device.reset()
}

fn early_doorbell(device: &Device) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    let mut queue = device.queue(0)?;
    queue.offer(0);
    device.kick(&queue);
    device.reset()
}

fn doorbells(device: &Device) -> Result<(), String> {
    let (base, step) = device.notify;
    for number in (0..0x1_0000).step_by(257).chain([0xffff]) {
        let at = base + (number % 64) * step.max(2);
        if at + 4 <= device.bar.len() {
            device.bar.write(at, 2, u64::try_from(number).unwrap_or(0));
        }
    }
    device.reset()
}

fn reset_during_request(device: &Device) -> Result<(), String> {
    for _ in 0..20 {
        let mut queues = device.start(VERSION_1)?;
        let request = honest::Request::of(device);
        let queue = queues.get_mut(request.queue).ok_or("no such queue")?;
        for _ in 0..SIZE {
            queue.offer(0);
        }
        device.kick(queue);
        device.reset()?;
    }
    Ok(())
}

fn many_resets(device: &Device) -> Result<(), String> {
    for _ in 0..100 {
        device.negotiate(VERSION_1)?;
        device.set(common::STATUS, 1, 0);
    }
    device.reset()
}

fn no_such_queue(device: &Device) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    for select in [device.get(common::NUM_QUEUES, 2), 0x100, 0x7fff, 0xffff] {
        device.set(common::QUEUE_SELECT, 2, select);
        if device.get(common::QUEUE_SIZE, 2) != 0 {
            return Err(format!("queue {select} has a size"));
        }
        for register in [
            common::QUEUE_SIZE,
            common::QUEUE_MSIX_VECTOR,
            common::QUEUE_ENABLE,
            common::QUEUE_DESC,
        ] {
            device.set(register, 2, 1);
        }
        if device.get(common::QUEUE_ENABLE, 2) != 0 {
            return Err(format!("queue {select} can be enabled"));
        }
    }
    device.reset()
}

fn configuration(device: &Device) -> Result<(), String> {
    let Some(base) = device.specific else {
        return Ok(());
    };
    for offset in 0..128 {
        for width in [1, 2, 4, 8] {
            if base + offset + width <= device.bar.len() {
                device.bar.read(base + offset, width);
                device.bar.write(base + offset, width, u64::MAX);
            }
        }
    }
    Ok(())
}

fn read_config(device: &Device) -> Result<(), String> {
    for offset in (0..256).chain((256..4096).step_by(61)) {
        for width in [1, 2, 4] {
            device.function.read_config(offset, width);
        }
    }
    Ok(())
}

/// Everything but the command register, whose ones are harmless too but whose value the driver needs, is put back afterwards.
fn write_config(device: &Device) -> Result<(), String> {
    let before = device.function.read_config(0, 64);
    for offset in (0..256).step_by(4) {
        device.function.write_config(offset, &[0xff; 4]);
        device.function.write_config(offset + 1, &[0xff]);
        device.function.write_config(offset + 2, &[0; 2]);
    }
    device.function.write_config(0, &before);
    if let Some(at) = msix_capability(device) {
        device.function.write_config(at + 2, &[0; 2]);
    }
    device.function.enable();
    Ok(())
}

/// Sizes the BAR, moves it, uses nothing of it there, and puts it back.
fn move_bar(device: &Device, to: u64) -> Result<(), String> {
    let before = device.function.read_config(0x10, 8);
    for value in [u64::MAX, to] {
        device
            .function
            .write_config(0x10, &value.to_le_bytes()[..4]);
        device
            .function
            .write_config(0x14, &value.to_le_bytes()[4..]);
        device.function.read_config(0x10, 8);
    }
    device.function.write_config(0x10, &before[..4]);
    device.function.write_config(0x14, &before[4..]);
    let after = device.function.read_config(0x10, 8);
    if after == before {
        Ok(())
    } else {
        Err(format!("BAR reads {after:x?}, was {before:x?}"))
    }
}

fn decoding(device: &Device) -> Result<(), String> {
    let queues = device.start(VERSION_1)?;
    device.function.write_config(4, &[0; 2]);
    for queue in &queues {
        device.kick(queue);
    }
    device.status();
    device.function.enable();
    device.reset()
}

/// Offset of the MSI-X capability (PCI 3.0, 6.8.2).
fn msix_capability(device: &Device) -> Option<u64> {
    device
        .function
        .capabilities()
        .into_iter()
        .find(|(_, id)| *id == 0x11)
        .map(|(at, _)| at)
}

fn msix_table(device: &Device) -> Result<(), String> {
    let at = msix_capability(device).ok_or("no MSI-X")?;
    let bar = device.function.config_number(at + 4, 4) & 7;
    let offset = usize::try_from(device.function.config_number(at + 4, 4) & !7).unwrap_or(0);
    let count = usize::try_from(device.function.config_number(at + 2, 2) & 0x7ff).unwrap_or(0) + 1;
    let table = device.function.map(bar)?;
    let mut queues = device.start(VERSION_1)?;
    device
        .function
        .write_config(at + 2, &0x8000_u16.to_le_bytes());
    for (address, data) in [
        (0, 0),
        (u64::MAX, u64::MAX),
        (0xfee0_0000, 0xffff_ffff),
        (0x1000, 0x20),
    ] {
        for entry in 0..count {
            let entry = offset + entry * 16;
            table.write(entry, 8, address);
            table.write(entry + 8, 4, data);
            table.write(entry + 12, 4, 0);
            table.write(entry + 12, 1, 1);
            table.write(entry + 14, 2, 0xffff);
            table.write(entry + 12, 4, 0);
        }
        for queue in &queues {
            device.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
            device.set(common::QUEUE_MSIX_VECTOR, 2, 0);
        }
    }
    // Masked again before anything is signalled: data 0x20 would be an exception vector of ours.
    device
        .function
        .write_config(at + 2, &0xc000_u16.to_le_bytes());
    let outcome = honest::answers(device, &mut queues);
    device.function.write_config(at + 2, &[0; 2]);
    device.reset()?;
    outcome
}

fn vectors(device: &Device) -> Result<(), String> {
    device.negotiate(VERSION_1)?;
    device.set(common::QUEUE_SELECT, 2, 0);
    for register in [common::MSIX_CONFIG, common::QUEUE_MSIX_VECTOR] {
        for vector in [0x100, 0x7ff, 0x800, 0xfffe] {
            device.set(register, 2, vector);
            let now = device.get(register, 2);
            if now != 0xffff {
                return Err(format!("vector {vector:#x} reads {now:#x}"));
            }
        }
    }
    device.reset()
}

/// Every offset of the first bytes of each page of the BAR, then samples.
fn offsets(device: &Device) -> impl Iterator<Item = usize> + use<> {
    let len = device.bar.len();
    (0..len - 8).filter(|offset| offset % 4096 < 70 || offset % 509 == 0 || offset % 4096 > 4090)
}

fn read_registers(device: &Device) -> Result<(), String> {
    for offset in offsets(device) {
        for width in [1, 2, 4, 8] {
            device.bar.read(offset, width);
        }
    }
    Ok(())
}

fn write_registers(device: &Device) -> Result<(), String> {
    for offset in offsets(device) {
        for width in [1, 2, 4, 8] {
            device.bar.write(offset, width, u64::MAX);
        }
    }
    if let Some(at) = msix_capability(device) {
        device.function.write_config(at + 2, &[0; 2]);
    }
    device.reset()
}
