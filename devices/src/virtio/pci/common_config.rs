//! The common configuration structure as data (virtio 1.2, 4.1.4.3).
//!
//! Drivers access each field at its own width, 64-bit ones as two halves (4.1.3.1). Whatever else is tried hits nothing.

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    QueueCount,
    Status,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOffset,
    Descriptors(Half),
    Available(Half),
    Used(Half),
}

/// Half of a 64-bit register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

/// Offset, width and name of each register.
const REGISTERS: [(u64, usize, Register); 19] = [
    (0x00, 4, Register::DeviceFeatureSelect),
    (0x04, 4, Register::DeviceFeature),
    (0x08, 4, Register::DriverFeatureSelect),
    (0x0c, 4, Register::DriverFeature),
    (0x10, 2, Register::ConfigVector),
    (0x12, 2, Register::QueueCount),
    (0x14, 1, Register::Status),
    (0x15, 1, Register::ConfigGeneration),
    (0x16, 2, Register::QueueSelect),
    (0x18, 2, Register::QueueSize),
    (0x1a, 2, Register::QueueVector),
    (0x1c, 2, Register::QueueEnable),
    (0x1e, 2, Register::QueueNotifyOffset),
    (0x20, 4, Register::Descriptors(Half::Low)),
    (0x24, 4, Register::Descriptors(Half::High)),
    (0x28, 4, Register::Available(Half::Low)),
    (0x2c, 4, Register::Available(Half::High)),
    (0x30, 4, Register::Used(Half::Low)),
    (0x34, 4, Register::Used(Half::High)),
];

/// The register at `offset`, if it is `len` bytes wide.
pub(super) fn find(offset: u64, len: usize) -> Option<Register> {
    REGISTERS
        .iter()
        .find(|(at, width, _)| (*at, *width) == (offset, len))
        .map(|(_, _, register)| *register)
}

/// A value the driver wrote, least significant byte first.
pub(super) fn value_of(data: &[u8]) -> u32 {
    let bytes = data.iter().take(4).rev();
    bytes.fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Puts the low bytes of `value` into `data`.
pub(super) fn put_value(data: &mut [u8], value: u32) {
    data.fill(0);
    data.iter_mut()
        .zip(value.to_le_bytes())
        .for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_tile_the_structure() {
        let mut end = 0;
        for (offset, width, register) in REGISTERS {
            assert_eq!(offset, end, "{register:?}");
            assert_eq!(find(offset, width), Some(register));
            assert_eq!(find(offset, 8), None);
            end = offset + width as u64;
        }
        assert_eq!(end, 0x38);
        assert_eq!(find(0x14, 2), None);
        assert_eq!(find(0x21, 1), None);
        assert_eq!(find(u64::MAX, 1), None);
    }

    #[test]
    fn values_survive_any_width() {
        assert_eq!(value_of(&[0x78, 0x56, 0x34, 0x12]), 0x1234_5678);
        assert_eq!(value_of(&[0x78, 0x56]), 0x5678);
        assert_eq!(value_of(&[]), 0);
        let mut data = [9; 2];
        put_value(&mut data, 0x1234_5678);
        assert_eq!(data, [0x78, 0x56]);
    }
}
