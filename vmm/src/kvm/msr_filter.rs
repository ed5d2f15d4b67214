//! Which model-specific registers a guest may use: all others exit to the VMM, which answers with #GP.

use std::ops::RangeInclusive;

use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags};

use super::error::{KvmError, Result};
use super::vm::Vm;

/// A stretch of register numbers that the filter speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MsrWindow {
    /// First number.
    pub(crate) base: u32,
    /// How many.
    pub(crate) count: u32,
}

/// For each window, one bit a register: may it be read, may it be written.
#[derive(Debug, Default)]
pub(crate) struct MsrFilter {
    windows: Vec<(MsrWindow, Vec<u8>, Vec<u8>)>,
}

impl MsrFilter {
    /// A filter that allows, in `windows`, to read all but `unreadable`, to write only `writable`, and nothing elsewhere.
    pub(crate) fn new(
        windows: &[MsrWindow],
        unreadable: &[RangeInclusive<u32>],
        writable: &[RangeInclusive<u32>],
    ) -> Self {
        let windows = windows.iter().map(|window| {
            let (mut read, mut write) = (window.bitmap(u8::MAX), window.bitmap(0));
            window.set(&mut read, unreadable, false);
            window.set(&mut write, writable, true);
            (*window, read, write)
        });
        Self {
            windows: windows.collect(),
        }
    }
}

impl MsrWindow {
    fn bitmap(self, byte: u8) -> Vec<u8> {
        vec![byte; self.count.div_ceil(8) as usize]
    }

    /// Walks the ranges rather than the window: it is a start's time, and windows are far larger.
    fn set(self, bits: &mut [u8], ranges: &[RangeInclusive<u32>], value: bool) {
        for msr in ranges.iter().cloned().flatten() {
            let Some(index) = msr.checked_sub(self.base) else {
                continue;
            };
            // Past the end of the window there is no byte, or a bit that KVM does not look at.
            if let Some(byte) = bits.get_mut((index / 8) as usize) {
                let bit = 1 << (index % 8);
                *byte = if value { *byte | bit } else { *byte & !bit };
            }
        }
    }
}

impl Vm {
    /// Puts `filter` into force.
    pub(crate) fn filter_msrs(&self, filter: &MsrFilter) -> Result<()> {
        let range = |window: &MsrWindow, flags, bitmap| MsrFilterRange {
            flags,
            base: window.base,
            msr_count: window.count,
            bitmap,
        };
        let ranges: Vec<_> = filter
            .windows
            .iter()
            .flat_map(|(window, read, write)| {
                [
                    range(window, MsrFilterRangeFlags::READ, read),
                    range(window, MsrFilterRangeFlags::WRITE, write),
                ]
            })
            .collect();
        self.fd
            .set_msr_filter(MsrFilterDefaultAction::DENY, &ranges)
            .map_err(KvmError::call("KVM_X86_SET_MSR_FILTER"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_stands_where_its_register_does() {
        let window = MsrWindow {
            base: 0x100,
            count: 12,
        };
        let filter = MsrFilter::new(&[window], &[0x0..=0x100, 0x109..=0x109], &[0x10b..=0x110]);
        assert_eq!(filter.windows[0].1, [0b1111_1110, 0b1111_1101]);
        assert_eq!(filter.windows[0].2, [0, 0b1111_1000]);
    }
}
