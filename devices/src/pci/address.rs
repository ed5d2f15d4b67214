//! Where a register of a function lies in the ECAM (PCI Express 5.0, 7.2.2).

use std::fmt;

/// Devices on bus 0.
pub const DEVICES: u8 = 32;
/// Bytes of ECAM that bus 0 takes.
pub const ECAM_SIZE: u64 = 1 << 20;
/// Configuration bytes of one function.
const FUNCTION_SIZE: u64 = 1 << 12;

/// A device on bus 0; its only function is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    device: u8,
}

impl PciAddress {
    /// Device `device` of bus 0, if there can be such a one.
    #[must_use]
    pub fn new(device: u8) -> Option<Self> {
        (device < DEVICES).then_some(Self { device })
    }

    /// Number of the device, below [`DEVICES`].
    #[must_use]
    pub fn device(self) -> u8 {
        self.device
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:00:{:02x}.0", self.device)
    }
}

/// Target of an access of `len` bytes at `offset` of the ECAM: device and register. `None` for functions other than 0, for
/// other buses, and for an access that PCI cannot make: not 1, 2 or 4 bytes, or across the end of a function.
#[must_use]
pub fn decode(offset: u64, len: usize) -> Option<(PciAddress, u16)> {
    if !matches!(len, 1 | 2 | 4) || offset >= ECAM_SIZE {
        return None;
    }
    let register = offset % FUNCTION_SIZE;
    let devfn = u8::try_from(offset / FUNCTION_SIZE).ok()?;
    let fits = register.checked_add(len as u64)? <= FUNCTION_SIZE;
    let is_function_0 = devfn & 7 == 0;
    if !fits || !is_function_0 {
        return None;
    }
    Some((PciAddress::new(devfn >> 3)?, u16::try_from(register).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_function_0_of_bus_0_decodes() {
        for devfn in 0..=255_u64 {
            let decoded = decode((devfn << 12) | 0x40, 4);
            let expected = u8::try_from(devfn >> 3).ok().and_then(PciAddress::new);
            let expected = expected.map(|address| (address, 0x40));
            assert_eq!(
                decoded,
                expected.filter(|_| devfn % 8 == 0),
                "devfn {devfn:#x}"
            );
        }
        assert_eq!(decode(ECAM_SIZE, 1), None);
        assert_eq!(decode(u64::MAX, 4), None);
    }

    #[test]
    fn impossible_accesses_do_not_decode() {
        for (offset, len) in [(0, 0), (0, 3), (0, 8), (0xffd, 4), (0xfff, 2)] {
            assert_eq!(decode(offset, len), None, "{offset:#x}+{len}");
        }
        assert!(decode(0xfff, 1).is_some());
    }

    #[test]
    fn addresses_print_as_the_host_prints_them() {
        let address = PciAddress::new(0x1f).unwrap();
        assert_eq!(address.to_string(), "0000:00:1f.0");
        assert_eq!(PciAddress::new(32), None);
    }
}
