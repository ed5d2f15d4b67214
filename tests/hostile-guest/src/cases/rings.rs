//! F1 to F5: descriptors and rings that no honest driver writes.

use super::Case;
use crate::driver::{
    Descriptor, Device, EVENT_IDX, INDIRECT_DESC, Queue, SIZE, VERSION_1, flag, status,
};
use crate::honest::Request;
use crate::memory::Page;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F1 descriptor that is its own next",
        attack: |device| chain(device, &[link(0)]),
    },
    Case {
        name: "F1 loop of two descriptors",
        attack: |device| chain(device, &[link(1), link(0)]),
    },
    Case {
        name: "F1 next out of range",
        attack: |device| chain(device, &[link(SIZE)]),
    },
    Case {
        name: "F1 next far out of range",
        attack: |device| chain(device, &[link(u16::MAX)]),
    },
    Case {
        name: "F1 chain as long as the queue, without an end",
        attack: endless,
    },
    Case {
        name: "F2 address past all memory",
        attack: |device| buffer(device, 1 << 40, 4096),
    },
    Case {
        name: "F2 address in the hole below 4 GiB",
        attack: |device| buffer(device, 0xd800_0000, 4096),
    },
    Case {
        name: "F2 address of the local APIC",
        attack: |device| buffer(device, 0xfee0_0000, 4096),
    },
    Case {
        name: "F2 address in a BAR",
        attack: |device| buffer(device, bar_address(device), 4096),
    },
    Case {
        name: "F2 address and length wrap",
        attack: |device| buffer(device, u64::MAX - 8, 4096),
    },
    Case {
        name: "F2 address is all ones",
        attack: |device| buffer(device, u64::MAX, 1),
    },
    Case {
        name: "F2 length of 4 GiB",
        attack: |device| buffer(device, 0, u32::MAX),
    },
    Case {
        name: "F2 length of zero",
        attack: |device| buffer(device, 0x1000, 0),
    },
    Case {
        name: "F2 total length over 4 GiB",
        attack: four_gigabytes,
    },
    Case {
        name: "F2 readable after writable",
        attack: disorder,
    },
    Case {
        name: "F3 indirect table inside an indirect table",
        attack: |device| indirect(device, INDIRECT_DESC, 32, flag::INDIRECT),
    },
    Case {
        name: "F3 indirect table of length 0",
        attack: |device| indirect(device, INDIRECT_DESC, 0, 0),
    },
    Case {
        name: "F3 indirect table of 17 bytes",
        attack: |device| indirect(device, INDIRECT_DESC, 17, 0),
    },
    Case {
        name: "F3 indirect table of 65,537 entries",
        attack: |device| indirect(device, INDIRECT_DESC, 65_537 * 16, 0),
    },
    Case {
        name: "F3 indirect table that runs out of memory",
        attack: |device| indirect(device, INDIRECT_DESC, 0xffff_fff0, 0),
    },
    Case {
        name: "F3 indirect though not negotiated",
        attack: |device| indirect(device, 0, 16, 0),
    },
    Case {
        name: "F3 indirect table in a hole",
        attack: |device| chain(device, &[table(0xd800_0000, 64)]),
    },
    Case {
        name: "F3 indirect with a next",
        attack: indirect_with_next,
    },
    Case {
        name: "F5 available index jumps past the queue size",
        attack: |device| jump(device, SIZE + 1),
    },
    Case {
        name: "F5 available index jumps by half its range",
        attack: |device| jump(device, 0x8000),
    },
    Case {
        name: "F5 available index goes back",
        attack: |device| jump(device, u16::MAX),
    },
    Case {
        name: "F5 head out of range",
        attack: |device| head(device, SIZE),
    },
    Case {
        name: "F5 head far out of range",
        attack: |device| head(device, u16::MAX),
    },
    Case {
        name: "F5 same head twice",
        attack: twice,
    },
    Case {
        name: "F5 event index that never comes",
        attack: event_index,
    },
];

fn link(next: u16) -> Descriptor {
    Descriptor {
        address: 0x1000,
        len: 16,
        flags: flag::NEXT,
        next,
    }
}

fn table(address: u64, len: u32) -> Descriptor {
    Descriptor {
        address,
        len,
        flags: flag::INDIRECT,
        next: 0,
    }
}

fn bar_address(device: &Device) -> u64 {
    device.function.config_number(0x10, 8) & !0xf
}

/// Whether the device writes into the first buffer of a request, or reads it.
fn direction(device: &Device) -> u16 {
    if Request::of(device).readable.is_empty() {
        flag::WRITE
    } else {
        0
    }
}

/// Starts the device, lets `attack` put something into its request queue, kicks, and waits for the device to have seen it: by
/// completing it, or by asking for a reset, or by dropping it without a word.
fn on_queue(device: &Device, features: u64, attack: impl FnOnce(&mut Queue)) -> Result<(), String> {
    let mut queues = device.start(VERSION_1 | features)?;
    let queue = queues
        .get_mut(Request::of(device).queue)
        .ok_or("no such queue")?;
    attack(queue);
    device.kick(queue);
    for _ in 0..20 {
        if queue.completed().is_some() || device.status() & status::NEEDS_RESET != 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    device.reset()
}

fn chain(device: &Device, descriptors: &[Descriptor]) -> Result<(), String> {
    let direction = direction(device);
    on_queue(device, INDIRECT_DESC, |queue| {
        for (slot, descriptor) in (0..).zip(descriptors) {
            let table = descriptor.flags & flag::INDIRECT != 0;
            let flags = if table {
                descriptor.flags
            } else {
                descriptor.flags | direction
            };
            queue.describe(
                slot,
                Descriptor {
                    flags,
                    ..*descriptor
                },
            );
        }
        queue.offer(0);
    })
}

fn buffer(device: &Device, address: u64, len: u32) -> Result<(), String> {
    chain(
        device,
        &[Descriptor {
            address,
            len,
            flags: 0,
            next: 0,
        }],
    )
}

fn endless(device: &Device) -> Result<(), String> {
    let descriptors: Vec<_> = (0..SIZE).map(|slot| link((slot + 1) % SIZE)).collect();
    chain(device, &descriptors)
}

fn four_gigabytes(device: &Device) -> Result<(), String> {
    let part = |next| Descriptor {
        address: 0,
        len: 0xc000_0000,
        flags: flag::NEXT,
        next,
    };
    chain(
        device,
        &[
            part(1),
            part(2),
            Descriptor {
                flags: 0,
                ..part(0)
            },
        ],
    )
}

fn disorder(device: &Device) -> Result<(), String> {
    let page = Page::new()?;
    on_queue(device, 0, |queue| {
        let part = Descriptor {
            address: page.physical(),
            len: 64,
            flags: flag::WRITE | flag::NEXT,
            next: 1,
        };
        queue.describe(0, part);
        queue.describe(1, Descriptor { flags: 0, ..part });
        queue.offer(0);
    })
}

/// One indirect descriptor with a table of `len` bytes, whose first entry has `flags` and points to the table itself.
fn indirect(device: &Device, features: u64, len: u32, flags: u16) -> Result<(), String> {
    let page = Page::new()?;
    let entry = Descriptor {
        address: page.physical(),
        len: 16,
        flags,
        next: 0,
    };
    page.write(0, &entry.bytes());
    page.write(16, &entry.bytes());
    on_queue(device, features, |queue| {
        queue.describe(0, table(page.physical(), len));
        queue.offer(0);
    })
}

fn indirect_with_next(device: &Device) -> Result<(), String> {
    let page = Page::new()?;
    page.write(
        0,
        &Descriptor {
            address: page.physical(),
            len: 16,
            flags: 0,
            next: 0,
        }
        .bytes(),
    );
    on_queue(device, INDIRECT_DESC, |queue| {
        let both = flag::INDIRECT | flag::NEXT;
        queue.describe(
            0,
            Descriptor {
                flags: both,
                next: 1,
                ..table(page.physical(), 16)
            },
        );
        queue.describe(
            1,
            Descriptor {
                address: page.physical(),
                len: 16,
                flags: flag::WRITE,
                next: 0,
            },
        );
        queue.offer(0);
    })
}

fn jump(device: &Device, by: u16) -> Result<(), String> {
    on_queue(device, 0, |queue| queue.jump(by))
}

fn head(device: &Device, head: u16) -> Result<(), String> {
    on_queue(device, 0, |queue| queue.offer(head))
}

fn twice(device: &Device) -> Result<(), String> {
    let page = Page::new()?;
    let flags = direction(device);
    on_queue(device, 0, |queue| {
        queue.describe(
            0,
            Descriptor {
                address: page.physical(),
                len: 64,
                flags,
                next: 0,
            },
        );
        queue.offer(0);
        queue.offer(0);
    })
}

fn event_index(device: &Device) -> Result<(), String> {
    let page = Page::new()?;
    let flags = direction(device);
    on_queue(device, EVENT_IDX, |queue| {
        queue.available.publish(4 + usize::from(SIZE) * 2, 0x7fff);
        queue.describe(
            0,
            Descriptor {
                address: page.physical(),
                len: 64,
                flags,
                next: 0,
            },
        );
        for _ in 0..SIZE {
            queue.offer(0);
        }
    })
}
