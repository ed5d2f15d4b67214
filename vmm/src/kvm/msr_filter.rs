//! Which model-specific registers a guest may use: all others exit to the VMM, which answers with #GP.

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
    /// A filter that allows, in `windows`, what the two functions say, and nothing elsewhere.
    pub(crate) fn new(
        windows: &[MsrWindow],
        readable: impl Fn(u32) -> bool,
        writable: impl Fn(u32) -> bool,
    ) -> Self {
        let windows = windows.iter().map(|window| {
            (
                *window,
                bitmap(*window, &readable),
                bitmap(*window, &writable),
            )
        });
        Self {
            windows: windows.collect(),
        }
    }
}

fn bitmap(window: MsrWindow, allowed: impl Fn(u32) -> bool) -> Vec<u8> {
    let mut bits = vec![0_u8; window.count.div_ceil(8) as usize];
    for index in (0..window.count).filter(|index| allowed(window.base + index)) {
        if let Some(byte) = bits.get_mut((index / 8) as usize) {
            *byte |= 1 << (index % 8);
        }
    }
    bits
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
        let filter = MsrFilter::new(&[window], |msr| msr == 0x109, |_| false);
        assert_eq!(filter.windows[0].1, [0, 0b10]);
        assert_eq!(filter.windows[0].2, [0, 0]);
    }
}
