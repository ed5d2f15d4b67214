//! The configuration space of one function: an image of its registers and a mask of the bits a driver may change.
//!
//! Sizing of BARs falls out of the masks (PCI 3.0, 6.2.5.1): the bits below a BAR's size are not writable.

use super::capability::{Capability, CapabilityError};

/// Bytes that are implemented; the extended space above them reads as zero, which says "no extended capabilities".
pub const CONFIG_SIZE: usize = 256;
/// Register of the command word.
pub const COMMAND: u16 = 0x04;
/// Command bit: the function answers on its memory BARs.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command bits a driver may change: memory space, bus master, interrupt disable.
const COMMAND_WRITABLE: u16 = COMMAND_MEMORY | 1 << 2 | 1 << 10;
/// Register of the status word, and its bit "has capabilities".
const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Register of the first BAR.
pub const BAR0: u16 = 0x10;
/// Register with the offset of the first capability, and where capabilities begin.
const CAPABILITY_POINTER: u16 = 0x34;
const FIRST_CAPABILITY: u16 = 0x40;

/// What a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class, subclass and programming interface, from high to low.
    pub class: [u8; 3],
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// Registers and masks of one function.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    image: [u8; CONFIG_SIZE],
    writable: [u8; CONFIG_SIZE],
    /// Register that links to the next capability to be added.
    link: u16,
    /// Where that one will lie.
    free: u16,
}

impl ConfigSpace {
    /// A type 0 header with no BARs and no capabilities.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let mut config = Self {
            image: [0; CONFIG_SIZE],
            writable: [0; CONFIG_SIZE],
            link: CAPABILITY_POINTER,
            free: FIRST_CAPABILITY,
        };
        let [class, subclass, interface] = identity.class;
        config.set(0x00, &identity.vendor.to_le_bytes());
        config.set(0x02, &identity.device.to_le_bytes());
        config.set(0x08, &[identity.revision, interface, subclass, class]);
        config.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        config.set(0x2e, &identity.subsystem.to_le_bytes());
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        // Cache line size and interrupt line are scratch registers of the operating system.
        config.allow(0x0c, &[0xff]);
        config.allow(0x3c, &[0xff]);
        config
    }

    /// Appends `capability` to the list. Returns its register.
    pub fn add_capability(&mut self, capability: &Capability) -> Result<u16, CapabilityError> {
        let (register, link) = (self.free, self.link);
        let end = usize::from(register).saturating_add(capability.len());
        // Capabilities are aligned to 4 bytes (PCI 3.0, 6.7).
        let (pointer, free) = u8::try_from(register)
            .ok()
            .filter(|_| end <= CONFIG_SIZE)
            .zip(u16::try_from(end.next_multiple_of(4)).ok())
            .ok_or(CapabilityError::NoRoom { id: capability.id })?;
        self.set(register, &[capability.id, 0]);
        let body = register.saturating_add(2);
        self.set(body, &capability.body);
        self.allow(body, &capability.writable);
        self.set(link, &[pointer]);
        self.set(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        self.link = register.saturating_add(1);
        self.free = free;
        Ok(register)
    }

    /// The driver's read.
    pub fn read(&self, register: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(register)..).zip(data) {
            *byte = self.image.get(at).copied().unwrap_or(0);
        }
    }

    /// The driver's write: changes only bits that are writable.
    pub fn write(&mut self, register: u16, data: &[u8]) {
        let cells = self.image.iter_mut().zip(&self.writable);
        for ((cell, mask), byte) in cells.skip(usize::from(register)).zip(data) {
            *cell = (*cell & !mask) | (byte & mask);
        }
    }

    /// The device's own write: changes every bit.
    pub fn set(&mut self, register: u16, data: &[u8]) {
        let cells = self.image.iter_mut().skip(usize::from(register));
        for (cell, byte) in cells.zip(data) {
            *cell = *byte;
        }
    }

    /// Lets the driver write the bits set in `mask`.
    pub fn allow(&mut self, register: u16, mask: &[u8]) {
        let cells = self.writable.iter_mut().skip(usize::from(register));
        for (cell, byte) in cells.zip(mask) {
            *cell = *byte;
        }
    }

    /// A 16-bit register.
    #[must_use]
    pub fn word(&self, register: u16) -> u16 {
        let mut data = [0; 2];
        self.read(register, &mut data);
        u16::from_le_bytes(data)
    }

    /// A 32-bit register.
    #[must_use]
    pub fn dword(&self, register: u16) -> u32 {
        let mut data = [0; 4];
        self.read(register, &mut data);
        u32::from_le_bytes(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        vendor: 0x1af4,
        device: 0x1044,
        revision: 1,
        class: [0xff, 2, 3],
        subsystem_vendor: 0x1af4,
        subsystem: 4,
    };

    #[test]
    fn header_has_the_identity() {
        let config = ConfigSpace::new(&IDENTITY);
        assert_eq!(config.dword(0), 0x1044_1af4);
        assert_eq!(config.dword(8), 0xff02_0301);
        assert_eq!(config.dword(0x2c), 0x0004_1af4);
        assert_eq!(config.word(STATUS), 0);
    }

    #[test]
    fn only_writable_bits_change_at_any_size_and_offset() {
        let mut config = ConfigSpace::new(&IDENTITY);
        let before = config.clone();
        for register in 0..512_u16 {
            for len in [1, 2, 4] {
                config.write(register, &vec![0xff; len]);
            }
        }
        assert_eq!(config.word(COMMAND), COMMAND_WRITABLE);
        config.write(0x03, &[0; 4]);
        assert_eq!(config.word(COMMAND), 0);
        config.write(0x0c, &[0]);
        config.write(0x3c, &[0]);
        assert_eq!(config.image, before.image);
        let mut data = [1; 4];
        config.read(254, &mut data);
        assert_eq!(data, [0; 4]);
        config.read(u16::MAX, &mut data);
    }

    #[test]
    fn capabilities_are_linked_and_bounded() {
        let mut config = ConfigSpace::new(&IDENTITY);
        let capability = Capability::new(9, vec![5; 11]);
        let first = config.add_capability(&capability).unwrap();
        let second = config.add_capability(&capability).unwrap();
        assert_eq!((first, second), (0x40, 0x50));
        assert_eq!(config.word(STATUS), STATUS_CAPABILITIES);
        assert_eq!(config.word(CAPABILITY_POINTER), first);
        assert_eq!(config.word(first), 0x5009);
        assert_eq!(config.word(second), 0x0009);
        for _ in 0..10 {
            config.add_capability(&capability).unwrap();
        }
        assert!(config.add_capability(&capability).is_err());
        assert_eq!(config.word(0xf0), 0x0009);
    }
}
