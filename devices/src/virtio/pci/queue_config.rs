//! The registers of one queue: free while it is disabled, checked when it is enabled, frozen from then on.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory as _, GuestMemoryMmap};

use super::common_config::Half;
use super::interrupts::NO_VECTOR;

/// What the driver has written for one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueConfig {
    max_size: u16,
    pub(super) size: u16,
    pub(super) vector: u16,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    enabled: bool,
}

/// A ring: its address, length and alignment (virtio 1.2, 2.7).
struct Ring {
    address: u64,
    len: u64,
    align: u64,
}

impl Ring {
    fn end(&self) -> Option<u64> {
        self.address.checked_add(self.len)
    }

    /// Address 0 is what a driver that set none leaves behind.
    fn is_sound(&self, memory: &GuestMemoryMmap) -> bool {
        let aligned = self.address != 0 && self.address.is_multiple_of(self.align);
        let len = usize::try_from(self.len);
        aligned && len.is_ok_and(|len| memory.check_range(GuestAddress(self.address), len))
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self.end(), other.end()) {
            (Some(end), Some(other_end)) => self.address < other_end && other.address < end,
            _ => true,
        }
    }
}

impl QueueConfig {
    pub(super) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size,
            vector: NO_VECTOR,
            descriptors: 0,
            available: 0,
            used: 0,
            enabled: false,
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    fn rings(&self) -> [Ring; 3] {
        let size = u64::from(self.size);
        let ring = |address, entry: u64, header: u64, align| Ring {
            address,
            len: size.saturating_mul(entry).saturating_add(header),
            align,
        };
        // The headers include the words of the event index, which follow the entries.
        [
            ring(self.descriptors, 16, 0, 16),
            ring(self.available, 2, 6, 2),
            ring(self.used, 8, 6, 4),
        ]
    }

    /// Enables the queue if its size is a power of two up to the largest, and its rings are aligned, apart from each other and
    /// wholly in `memory`. If not it stays disabled, which the driver can read back.
    pub(super) fn enable(&mut self, memory: &GuestMemoryMmap) {
        let [descriptors, available, used] = self.rings();
        let size = self.size.is_power_of_two() && self.size <= self.max_size;
        let apart = !descriptors.overlaps(&available)
            && !available.overlaps(&used)
            && !used.overlaps(&descriptors);
        let sound = [descriptors, available, used]
            .iter()
            .all(|ring| ring.is_sound(memory));
        self.enabled = size && apart && sound;
    }

    /// The ring state to start with; the device, not the driver, owns it from now on. `None` if the queue is not enabled.
    pub(super) fn build(&self) -> Option<Queue> {
        if !self.enabled {
            return None;
        }
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(self.descriptors))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.available))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(self.used))
            .ok()?;
        queue.set_ready(true);
        Some(queue)
    }
}

/// One half of a 64-bit register.
pub(super) fn half_of(register: u64, half: Half) -> u32 {
    let [a, b, c, d, e, f, g, h] = register.to_le_bytes();
    match half {
        Half::Low => u32::from_le_bytes([a, b, c, d]),
        Half::High => u32::from_le_bytes([e, f, g, h]),
    }
}

/// `register` with one half replaced.
pub(super) fn with_half(register: u64, half: Half, value: u32) -> u64 {
    let (low, high) = match half {
        Half::Low => (value, half_of(register, Half::High)),
        Half::High => (half_of(register, Half::Low), value),
    };
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: usize = 0x10000;

    fn memory() -> GuestMemoryMmap {
        let ranges = [(GuestAddress(0), RAM), (GuestAddress(0x20000), RAM)];
        GuestMemoryMmap::from_ranges(&ranges).unwrap()
    }

    fn good() -> QueueConfig {
        QueueConfig {
            size: 16,
            descriptors: 0x1000,
            available: 0x2000,
            used: 0x3000,
            ..QueueConfig::new(256)
        }
    }

    fn enabled(config: QueueConfig) -> bool {
        let mut config = config;
        config.enable(&memory());
        assert_eq!(config.enabled(), config.build().is_some());
        config.enabled()
    }

    #[test]
    fn a_sound_queue_is_enabled() {
        assert!(enabled(good()));
        let used = RAM as u64 - (6 + 8 * 16) - 2;
        assert!(enabled(QueueConfig { used, ..good() }));
    }

    #[test]
    fn bad_sizes_are_refused() {
        for size in [0, 3, 512, 0x8000, 65_535] {
            assert!(!enabled(QueueConfig { size, ..good() }), "size {size}");
        }
    }

    #[test]
    fn unaligned_overlapping_and_outside_rings_are_refused() {
        let ram = RAM as u64;
        for (descriptors, available, used) in [
            (0, 0x2000, 0x3000),
            (0x1008, 0x2000, 0x3000),
            (0x1000, 0x2001, 0x3000),
            (0x1000, 0x2000, 0x3002),
            (0x1000, 0x1000, 0x3000),
            (0x1000, 0x2000, 0x2004),
            (0x1000, 0x10f0, 0x3000),
            (ram - 0xf0, 0x2000, 0x3000),
            (0x1000, ram - 2, 0x3000),
            (0x1000, 0x2000, ram),
            (0x1000, 0x2000, 0x1_0000_0000),
            (0xffff_ffff_ffff_fff0, 0x2000, 0x3000),
            (0x1000, 0xffff_ffff_ffff_fffe, 0x3000),
            (0x1000, 0x2000, 0xffff_ffff_ffff_fffc),
        ] {
            let config = QueueConfig {
                descriptors,
                available,
                used,
                ..good()
            };
            assert!(!enabled(config.clone()), "{config:x?}");
        }
    }

    #[test]
    fn halves_are_independent() {
        let value = with_half(with_half(0, Half::High, 1), Half::Low, 2);
        assert_eq!(value, 0x1_0000_0002);
        assert_eq!(half_of(value, Half::High), 1);
        assert_eq!(half_of(value, Half::Low), 2);
    }
}
