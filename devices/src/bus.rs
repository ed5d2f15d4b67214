//! Address to device: port I/O and memory-mapped registers.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// Registers that processors read and write. Shared by all processor threads, so devices lock what they change.
pub trait BusDevice: Send + Sync {
    /// Fills `data` with the registers at `offset` from the device's base. What is not a register reads as all ones.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes `data` to the registers at `offset` from the device's base. What is not a register ignores it.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Why a device could not be put on a bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// The range is empty or wraps.
    #[error("range {base:#x}+{size:#x} is empty or wraps")]
    BadRange {
        /// First address.
        base: u64,
        /// Length in bytes.
        size: u64,
    },
    /// Another device has part of the range.
    #[error("range {base:#x}+{size:#x} overlaps the device at {other:#x}")]
    Overlap {
        /// First address.
        base: u64,
        /// Length in bytes.
        size: u64,
        /// First address of the device in the way.
        other: u64,
    },
}

#[derive(Clone)]
struct Entry {
    size: u64,
    device: Arc<dyn BusDevice>,
}

/// One address space. Holes read as all ones and ignore writes.
#[derive(Default)]
pub struct Bus {
    entries: RwLock<BTreeMap<u64, Entry>>,
}

impl Bus {
    /// Puts `device` at `base..base + size`.
    pub fn insert(&self, base: u64, size: u64, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let last = size.checked_sub(1).and_then(|span| base.checked_add(span));
        let last = last.ok_or(BusError::BadRange { base, size })?;
        let mut entries = self
            .entries
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let below = entries.range(..=last).next_back();
        // Entries do not wrap, so their last address is where this says.
        let last_of =
            |other: u64, entry: &Entry| other.saturating_add(entry.size.saturating_sub(1));
        if let Some((&other, entry)) = below
            && last_of(other, entry) >= base
        {
            return Err(BusError::Overlap { base, size, other });
        }
        entries.insert(base, Entry { size, device });
        Ok(())
    }

    /// Takes away the device whose first address is `base`. Returns whether there was one.
    pub fn remove(&self, base: u64) -> bool {
        let mut entries = self
            .entries
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.remove(&base).is_some()
    }

    /// A processor's read.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((offset, device)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A processor's write.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    /// The device that has all of `address..address + len`; an access that straddles its end hits nothing.
    fn find(&self, address: u64, len: usize) -> Option<(u64, Arc<dyn BusDevice>)> {
        let entries = self
            .entries
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let (&base, entry) = entries.range(..=address).next_back()?;
        let offset = address.checked_sub(base)?;
        let end = offset.checked_add(len as u64)?;
        (end <= entry.size).then(|| (offset, entry.device.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Constant(u8);
    impl BusDevice for Constant {
        fn read(&self, _offset: u64, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }

    fn read(bus: &Bus, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        bus.read(address, &mut data);
        data
    }

    #[test]
    fn holes_and_straddling_accesses_read_all_ones() {
        let bus = Bus::default();
        bus.insert(0x10, 8, Arc::new(Constant(1))).unwrap();
        assert_eq!(read(&bus, 0x10, 1), [1]);
        assert_eq!(read(&bus, 0x17, 1), [1]);
        assert_eq!(read(&bus, 0x17, 2), [0xff; 2]);
        assert_eq!(read(&bus, 0x0f, 1), [0xff]);
        assert_eq!(read(&bus, 0x18, 4), [0xff; 4]);
    }

    #[test]
    fn overlaps_and_wrapping_ranges_are_refused() {
        let bus = Bus::default();
        bus.insert(0x10, 8, Arc::new(Constant(1))).unwrap();
        for (base, size) in [(0x0f, 2), (0x17, 1), (0, 0x100), (0x10, 8)] {
            let error = bus.insert(base, size, Arc::new(Constant(2))).unwrap_err();
            assert_eq!(
                error,
                BusError::Overlap {
                    base,
                    size,
                    other: 0x10
                }
            );
        }
        assert!(matches!(
            bus.insert(1, 0, Arc::new(Constant(2))),
            Err(BusError::BadRange { .. })
        ));
        assert!(matches!(
            bus.insert(u64::MAX, 2, Arc::new(Constant(2))),
            Err(BusError::BadRange { .. })
        ));
        bus.insert(u64::MAX, 1, Arc::new(Constant(3))).unwrap();
        assert_eq!(read(&bus, u64::MAX, 1), [3]);
        assert!(bus.remove(0x10));
        assert_eq!(read(&bus, 0x10, 1), [0xff]);
    }
}
