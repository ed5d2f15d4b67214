//! Base address registers, and the windows of address space they may lie in.

use super::config_space::{BAR0, ConfigSpace};

/// Registers for BARs in a type 0 header; a 64-bit one takes two.
const BARS: u8 = 6;
/// Smallest BAR: a page, so that no two functions share one.
const MIN_SIZE: u64 = 4096;
/// Type bits of a BAR (PCI 3.0, 6.2.5.1): 64-bit memory.
const TYPE_64: u32 = 0b100;
const FLAG_BITS: u32 = 0xf;

/// Why BARs could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BarError {
    /// The size is no power of two of at least a page, the width cannot hold it, or the register does not exist.
    #[error("bar {index} of {size:#x} bytes cannot be declared")]
    Declaration {
        /// Index of its register.
        index: u8,
        /// Bytes.
        size: u64,
    },
    /// The window is full.
    #[error("no room for bar {index} of {size:#x} bytes in the memory windows")]
    NoRoom {
        /// Index of its register.
        index: u8,
        /// Bytes.
        size: u64,
    },
}

/// How wide addresses in a BAR are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarWidth {
    /// Below 4 GiB.
    Bits32,
    /// Anywhere.
    Bits64,
}

/// One memory BAR, not prefetchable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Index of its (first) register.
    pub index: u8,
    /// Bytes it decodes.
    pub size: u64,
    /// Width of its address.
    pub width: BarWidth,
}

impl Bar {
    /// Makes the register in `config`, at address 0.
    pub(super) fn declare(self, config: &mut ConfigSpace) -> Result<(), BarError> {
        let Self { index, size, width } = self;
        let registers = match width {
            BarWidth::Bits32 => 1,
            BarWidth::Bits64 => 2,
        };
        let fits = width == BarWidth::Bits64 || size <= 1 << 31;
        let exists = index.checked_add(registers).is_some_and(|end| end <= BARS);
        if !size.is_power_of_two() || size < MIN_SIZE || !fits || !exists {
            return Err(BarError::Declaration { index, size });
        }
        let mask = self.mask().to_le_bytes();
        match width {
            BarWidth::Bits32 => {
                let (low, _) = mask.split_at(4);
                config.allow(self.register(), low);
            }
            BarWidth::Bits64 => {
                config.set(self.register(), &TYPE_64.to_le_bytes());
                config.allow(self.register(), &mask);
            }
        }
        Ok(())
    }

    /// Address bits that the driver may choose.
    fn mask(self) -> u64 {
        !self.size.saturating_sub(1)
    }

    fn register(self) -> u16 {
        BAR0.saturating_add(u16::from(self.index).saturating_mul(4))
    }

    /// Address in the register.
    pub(super) fn address(self, config: &ConfigSpace) -> u64 {
        let low = u64::from(config.dword(self.register()) & !FLAG_BITS);
        match self.width {
            BarWidth::Bits32 => low,
            BarWidth::Bits64 => {
                let high = config.dword(self.register().saturating_add(4));
                u64::from(high) << 32 | low
            }
        }
    }

    /// Puts `address` into the register.
    pub(super) fn set_address(self, config: &mut ConfigSpace, address: u64) {
        let bytes = address.to_le_bytes();
        let (low, _) = bytes.split_at(4);
        config.write(
            self.register(),
            match self.width {
                BarWidth::Bits32 => low,
                BarWidth::Bits64 => &bytes,
            },
        );
    }

    /// Whether the driver is asking for the size: a register has ones wherever it can.
    pub(super) fn is_being_sized(self, config: &ConfigSpace) -> bool {
        let mask = self.mask().to_le_bytes();
        let mut written = self.address(config).to_le_bytes();
        if self.width == BarWidth::Bits32 {
            // The upper half does not exist; take it for equal.
            written.iter_mut().skip(4).for_each(|byte| *byte = 0);
        }
        let halves = written.chunks(4).zip(mask.chunks(4));
        halves.into_iter().any(|(half, mask)| half == mask)
    }
}

/// A range of addresses that has nothing in it but BARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioWindow {
    /// First address.
    pub base: u64,
    /// First address behind it.
    pub end: u64,
}

impl MmioWindow {
    fn contains(self, address: u64, size: u64) -> bool {
        let end = address.checked_add(size);
        address >= self.base && end.is_some_and(|end| end <= self.end)
    }
}

/// Where BARs may lie. The VMM keeps RAM and all other devices out of both windows, so a BAR can lie on top of neither.
#[derive(Debug, Clone)]
pub struct MmioWindows {
    low: MmioWindow,
    high: MmioWindow,
    low_free: u64,
    high_free: u64,
}

impl MmioWindows {
    /// Windows for 32-bit and 64-bit BARs. `high` is cut to the `address_bits` that the processor, or the IOMMU, has.
    #[must_use]
    pub fn new(low: MmioWindow, high: MmioWindow, address_bits: u8) -> Self {
        let low_limit = 1_u64 << 32;
        let high_limit = 1_u64.checked_shl(address_bits.into()).unwrap_or(u64::MAX);
        let cut = |window: MmioWindow, limit: u64| MmioWindow {
            base: window.base.min(limit),
            end: window.end.min(limit),
        };
        let (low, high) = (cut(low, low_limit), cut(high, high_limit));
        Self {
            low,
            high,
            low_free: low.base,
            high_free: high.base,
        }
    }

    /// The window for 32-bit BARs, as the firmware tables are to name it.
    #[must_use]
    pub fn low(&self) -> MmioWindow {
        self.low
    }

    /// The window for 64-bit BARs, as the firmware tables are to name it.
    #[must_use]
    pub fn high(&self) -> MmioWindow {
        self.high
    }

    /// A place for `bar`, aligned to its size.
    pub(super) fn allocate(&mut self, bar: Bar) -> Result<u64, BarError> {
        let (window, free) = match bar.width {
            BarWidth::Bits32 => (self.low, &mut self.low_free),
            BarWidth::Bits64 => (self.high, &mut self.high_free),
        };
        let place = free
            .checked_next_multiple_of(bar.size)
            .filter(|place| window.contains(*place, bar.size))
            .ok_or(BarError::NoRoom {
                index: bar.index,
                size: bar.size,
            })?;
        *free = place.saturating_add(bar.size);
        Ok(place)
    }

    /// Whether a BAR of `size` bytes may lie at `address`.
    pub(super) fn contain(&self, address: u64, size: u64) -> bool {
        self.low.contains(address, size) || self.high.contains(address, size)
    }
}
