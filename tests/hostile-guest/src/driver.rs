//! A virtio driver without manners: it can do each step of virtio 1.2, 3.1 and 4.1, in any order and with any values.

use std::time::{Duration, Instant};

use crate::memory::Page;
use crate::pci::{Function, Registers};

/// Device status bits (virtio 1.2, 2.1).
pub(crate) mod status {
    pub(crate) const ACKNOWLEDGE: u64 = 1;
    pub(crate) const DRIVER: u64 = 2;
    pub(crate) const DRIVER_OK: u64 = 4;
    pub(crate) const FEATURES_OK: u64 = 8;
    pub(crate) const NEEDS_RESET: u64 = 64;
}

/// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
pub(crate) mod common {
    pub(crate) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(crate) const DEVICE_FEATURE: usize = 4;
    pub(crate) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(crate) const DRIVER_FEATURE: usize = 12;
    pub(crate) const MSIX_CONFIG: usize = 16;
    pub(crate) const NUM_QUEUES: usize = 18;
    pub(crate) const STATUS: usize = 20;
    pub(crate) const QUEUE_SELECT: usize = 22;
    pub(crate) const QUEUE_SIZE: usize = 24;
    pub(crate) const QUEUE_MSIX_VECTOR: usize = 26;
    pub(crate) const QUEUE_ENABLE: usize = 28;
    pub(crate) const QUEUE_NOTIFY_OFF: usize = 30;
    pub(crate) const QUEUE_DESC: usize = 32;
    pub(crate) const QUEUE_DRIVER: usize = 40;
    pub(crate) const QUEUE_DEVICE: usize = 48;
}

/// Descriptor flags (virtio 1.2, 2.7.5).
pub(crate) mod flag {
    pub(crate) const NEXT: u16 = 1;
    pub(crate) const WRITE: u16 = 2;
    pub(crate) const INDIRECT: u16 = 4;
}

/// `VIRTIO_F_VERSION_1`.
pub(crate) const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_INDIRECT_DESC`.
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
pub(crate) const EVENT_IDX: u64 = 1 << 29;

/// Queue size the driver uses, unless an attack wants another.
pub(crate) const SIZE: u16 = 16;

/// How long an honest request may take. A device that hangs never answers; one of a machine that is emulated on a busy host may well
/// not run for a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One virtio device and the places of its registers.
pub(crate) struct Device {
    pub(crate) function: Function,
    /// virtio device id.
    pub(crate) id: u16,
    /// Registers of the BAR that holds the structures.
    pub(crate) bar: Registers,
    /// Offset of the common configuration.
    pub(crate) common: usize,
    /// Offset of the notification structure, and the distance between queues.
    pub(crate) notify: (usize, usize),
    /// Offset of the device-specific configuration.
    pub(crate) specific: Option<usize>,
}

/// One descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    /// As it lies in memory (virtio 1.2, 2.7.5).
    pub(crate) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// One virtqueue in pages of its own.
pub(crate) struct Queue {
    pub(crate) index: u16,
    pub(crate) size: u16,
    pub(crate) descriptors: Page,
    pub(crate) available: Page,
    pub(crate) used: Page,
    next: u16,
    seen: u16,
}

impl Device {
    /// The device behind a function, if it is virtio.
    pub(crate) fn of(function: Function) -> Result<Option<Self>, String> {
        if function.config_number(0, 2) != 0x1af4 {
            return Ok(None);
        }
        let id = u16::try_from(function.config_number(2, 2))
            .unwrap_or(0)
            .wrapping_sub(0x1040);
        let mut places = [None; 5];
        let mut multiplier = 0;
        let mut bar = 0;
        for (at, kind) in function.capabilities() {
            let structure = usize::try_from(function.config_number(at + 3, 1)).unwrap_or(0);
            if kind == 9 && (1..5).contains(&structure) {
                bar = function.config_number(at + 4, 1);
                places[structure] = usize::try_from(function.config_number(at + 8, 4)).ok();
                if structure == 2 {
                    multiplier = usize::try_from(function.config_number(at + 16, 4)).unwrap_or(0);
                }
            }
        }
        function.enable();
        let registers = function.map(bar)?;
        let common = places[1].ok_or("no common configuration")?;
        let notify = (places[2].ok_or("no notification structure")?, multiplier);
        Ok(Some(Self {
            function,
            id,
            bar: registers,
            common,
            notify,
            specific: places[4],
        }))
    }

    /// Name for reports.
    pub(crate) fn name(&self) -> &'static str {
        match self.id {
            1 => "net",
            2 => "blk",
            3 => "console",
            4 => "rng",
            19 => "vsock",
            26 => "fs",
            _ => "unknown",
        }
    }

    pub(crate) fn get(&self, register: usize, width: usize) -> u64 {
        self.bar.read(self.common + register, width)
    }

    pub(crate) fn set(&self, register: usize, width: usize, value: u64) {
        self.bar.write(self.common + register, width, value);
    }

    pub(crate) fn status(&self) -> u64 {
        self.get(common::STATUS, 1)
    }

    /// Resets and waits until the device says it is (virtio 1.2, 4.1.4.3.2).
    pub(crate) fn reset(&self) -> Result<(), String> {
        self.set(common::STATUS, 1, 0);
        wait("reset", || self.status() == 0)
    }

    /// Up to and with `FEATURES_OK`, accepting `features` out of those offered.
    pub(crate) fn negotiate(&self, features: u64) -> Result<(), String> {
        self.reset()?;
        self.set(common::STATUS, 1, status::ACKNOWLEDGE);
        self.set(common::STATUS, 1, status::ACKNOWLEDGE | status::DRIVER);
        let accepted = self.offered() & features;
        for (select, word) in [(0, accepted & 0xffff_ffff), (1, accepted >> 32)] {
            self.set(common::DRIVER_FEATURE_SELECT, 4, select);
            self.set(common::DRIVER_FEATURE, 4, word);
        }
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set(common::STATUS, 1, wanted);
        if self.status() == wanted {
            Ok(())
        } else {
            Err(format!("status {:#x}", self.status()))
        }
    }

    /// Features the device offers.
    pub(crate) fn offered(&self) -> u64 {
        let word = |select| {
            self.set(common::DEVICE_FEATURE_SELECT, 4, select);
            self.get(common::DEVICE_FEATURE, 4)
        };
        word(0) | word(1) << 32
    }

    /// Makes and enables a queue.
    pub(crate) fn queue(&self, index: u16) -> Result<Queue, String> {
        let queue = Queue::new(index, SIZE)?;
        self.place(&queue);
        self.set(common::QUEUE_ENABLE, 2, 1);
        if self.get(common::QUEUE_ENABLE, 2) == 1 {
            Ok(queue)
        } else {
            Err(format!("queue {index} not enabled"))
        }
    }

    /// Tells the device where a queue is, without enabling it.
    pub(crate) fn place(&self, queue: &Queue) {
        self.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
        self.set(common::QUEUE_SIZE, 2, u64::from(queue.size));
        let rings = [
            (common::QUEUE_DESC, &queue.descriptors),
            (common::QUEUE_DRIVER, &queue.available),
            (common::QUEUE_DEVICE, &queue.used),
        ];
        for (register, page) in rings {
            self.set(register, 4, page.physical() & 0xffff_ffff);
            self.set(register + 4, 4, page.physical() >> 32);
        }
    }

    /// Everything up to `DRIVER_OK`, with all queues.
    pub(crate) fn start(&self, features: u64) -> Result<Vec<Queue>, String> {
        self.negotiate(features)?;
        let count = u16::try_from(self.get(common::NUM_QUEUES, 2)).unwrap_or(0);
        let queues = (0..count)
            .map(|index| self.queue(index))
            .collect::<Result<Vec<_>, _>>()?;
        let ok = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.set(common::STATUS, 1, ok);
        if self.status() == ok {
            Ok(queues)
        } else {
            Err(format!("status {:#x}", self.status()))
        }
    }

    /// Rings the doorbell of a queue.
    pub(crate) fn kick(&self, queue: &Queue) {
        self.set(common::QUEUE_SELECT, 2, u64::from(queue.index));
        let offset = usize::try_from(self.get(common::QUEUE_NOTIFY_OFF, 2)).unwrap_or(0);
        let at = self.notify.0 + offset * self.notify.1;
        // All ones while memory decoding is off: no doorbell then.
        if at + 2 <= self.bar.len() {
            self.bar.write(at, 2, u64::from(queue.index));
        }
    }
}

impl Queue {
    /// Empty rings.
    pub(crate) fn new(index: u16, size: u16) -> Result<Self, String> {
        let (descriptors, available, used) = (Page::new()?, Page::new()?, Page::new()?);
        Ok(Self {
            index,
            size,
            descriptors,
            available,
            used,
            next: 0,
            seen: 0,
        })
    }

    /// Writes the descriptor at `slot`.
    pub(crate) fn describe(&self, slot: u16, descriptor: Descriptor) {
        self.descriptors
            .write(usize::from(slot) * 16, &descriptor.bytes());
    }

    /// Makes the chain that begins at `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = usize::from(self.next % self.size);
        self.available.write(4 + slot * 2, &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.available.publish(2, self.next);
    }

    /// Moves the available index without saying anything about it.
    pub(crate) fn jump(&mut self, by: u16) {
        self.next = self.next.wrapping_add(by);
        self.available.publish(2, self.next);
    }

    /// The next completed chain, if there is one: its head and the bytes written.
    pub(crate) fn completed(&mut self) -> Option<(u16, u32)> {
        if self.used.observe(2) == self.seen {
            return None;
        }
        let at = 4 + usize::from(self.seen % self.size) * 8;
        self.seen = self.seen.wrapping_add(1);
        let entry = self.used.read(at, 8);
        let number = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        Some((u16::try_from(number(0)).unwrap_or(u16::MAX), number(4)))
    }

    /// Waits for a completion.
    pub(crate) fn wait(&mut self) -> Result<(u16, u32), String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(done) = self.completed() {
                return Ok(done);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!(
            "queue {}: no completion within {PATIENCE:?}",
            self.index
        ))
    }
}

/// Waits until something holds.
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
