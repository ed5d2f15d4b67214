//! The machine's address map.
//!
//! ```text
//!  0x0000_0000   RAM         boot data below 1 MiB (see the constants), kernel and initrd above
//!  0xc000_0000   MMIO        32-bit BARs
//!  0xe000_0000   ECAM        configuration space of bus 0
//!  0xfec0_0000   I/O APIC
//!  0xfee0_0000   local APICs (in KVM)
//!  4 GiB         RAM         what does not fit below 3 GiB
//!  then          MMIO        64-bit BARs, from the next GiB boundary, kept low: IOMMUs may have few address bits
//! ```

use std::ops::Range;

use vm_memory::GuestAddress;

/// Descriptor table of the 64-bit boot protocol.
pub(super) const GDT: u64 = 0x500;
/// PVH start info, its module list and memory map.
pub(super) const PVH_START_INFO: u64 = 0x6000;
pub(super) const PVH_MODULES: u64 = 0x6040;
pub(super) const PVH_MEMORY_MAP: u64 = 0x6080;
/// `struct boot_params` of the 64-bit boot protocol.
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// Identity map of the 64-bit boot protocol: one top table, one directory pointer table, four directories.
pub(super) const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub(super) const COMMAND_LINE: u64 = 0x2_0000;
/// End of RAM below the legacy hole.
pub(super) const LOW_RAM_END: u64 = 0xa_0000;
/// ACPI tables.
pub(super) const ACPI_TABLES: Range<u64> = 0xe_0000..0x10_0000;
/// Kernels and initrds are not placed below.
pub(super) const HIGH_RAM: u64 = 0x10_0000;

/// Start of the hole for devices below 4 GiB.
const HOLE_START: u64 = 0xc000_0000;
/// RAM that does not fit below the hole goes on here.
const HOLE_END: u64 = 1 << 32;

/// Window for 32-bit BARs.
pub(crate) const MMIO32: Range<u64> = HOLE_START..ECAM_BASE;
/// Configuration space.
pub(crate) const ECAM_BASE: u64 = 0xe000_0000;
/// Bus 0 only: 32 slots of 8 functions of 4 KiB.
pub(crate) const ECAM_SIZE: u64 = 1 << 20;
/// The I/O APIC's registers.
pub(crate) const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Their length.
pub(crate) const IOAPIC_SIZE: u64 = 0x1000;
/// The local APICs, where KVM has them.
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;

/// COM1.
pub(crate) const SERIAL_PORT: u16 = 0x3f8;
/// Its interrupt.
pub(crate) const SERIAL_PIN: u8 = 4;
/// The ACPI register block.
pub(crate) const ACPI_PORT: u16 = 0x600;
/// Interrupt of the generic event device.
pub(crate) const EVENT_PIN: u8 = 5;
/// pvpanic's usual port.
pub(crate) const PANIC_PORT: u16 = 0x505;
/// Command port of the keyboard controller.
pub(crate) const KEYBOARD_PORT: u16 = 0x64;

const PAGE: u64 = 0x1000;
const GIB: u64 = 1 << 30;
/// Room for 64-bit BARs.
const MMIO64_SIZE: u64 = 64 * GIB;

/// Where `size` bytes of RAM lie.
pub(crate) fn ram_ranges(size: u64) -> Vec<(GuestAddress, usize)> {
    let low = size.min(HOLE_START);
    [(0, low), (HOLE_END, size - low)]
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .map(|(start, len)| {
            (
                GuestAddress(start),
                usize::try_from(len).unwrap_or(usize::MAX),
            )
        })
        .collect()
}

/// End of the RAM that starts at 0.
pub(crate) fn low_memory_end(ram: u64) -> u64 {
    ram.min(HOLE_START)
}

/// Window for 64-bit BARs above `ram` bytes of RAM, within `address_bits`. Empty if RAM leaves no room.
pub(crate) fn mmio64(ram: u64, address_bits: u32) -> Range<u64> {
    let ram_end = HOLE_END + ram.saturating_sub(HOLE_START);
    let start = ram_end.next_multiple_of(GIB);
    let limit = 1_u64.checked_shl(address_bits).unwrap_or(u64::MAX);
    start..(start + MMIO64_SIZE).min(limit).max(start)
}

/// Where an initrd of `size` bytes goes: as high as possible below `limit`, above the kernel's end. `None` if it does not fit.
pub(crate) fn initrd_address(size: u64, kernel_end: u64, limit: u64) -> Option<u64> {
    let address = limit.checked_sub(size)? & !(PAGE - 1);
    (address >= kernel_end).then_some(address)
}

/// What a stretch of the memory map is (`E820_*`, and the same numbers in PVH's map).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Ram = 1,
    Reserved = 2,
}

/// One stretch of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) kind: Kind,
}

/// The memory map that the kernel is told.
pub(super) fn memory_map(ram: u64) -> Vec<Stretch> {
    let stretch = |range: Range<u64>, kind| Stretch {
        start: range.start,
        size: range.end - range.start,
        kind,
    };
    let mut map = vec![
        stretch(0..LOW_RAM_END, Kind::Ram),
        stretch(ACPI_TABLES, Kind::Reserved),
        stretch(HIGH_RAM..low_memory_end(ram), Kind::Ram),
        stretch(ECAM_BASE..ECAM_BASE + ECAM_SIZE, Kind::Reserved),
    ];
    if ram > HOLE_START {
        map.push(stretch(HOLE_END..HOLE_END + (ram - HOLE_START), Kind::Ram));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_goes_around_the_hole() {
        assert_eq!(ram_ranges(256 << 20), [(GuestAddress(0), 256 << 20)]);
        assert_eq!(
            ram_ranges(5 * GIB),
            [(GuestAddress(0), 3 << 30), (GuestAddress(4 << 30), 2 << 30)]
        );
        assert_eq!(ram_ranges(3 * GIB).len(), 1);
        assert_eq!(memory_map(3 * GIB).len(), 4);
        assert_eq!(memory_map(5 * GIB).last().unwrap().size, 2 * GIB);
    }

    #[test]
    fn the_memory_map_has_no_overlaps() {
        for ram in [32 << 20, 3 * GIB, 3 * GIB + PAGE, 1 << 40] {
            let map = memory_map(ram);
            for pair in map.windows(2) {
                assert!(pair[0].start + pair[0].size <= pair[1].start);
            }
        }
    }

    #[test]
    fn the_64_bit_window_is_above_ram_and_within_the_address_width() {
        assert_eq!(mmio64(256 << 20, 48), 4 * GIB..68 * GIB);
        assert_eq!(mmio64(4 * GIB, 48).start, 5 * GIB);
        assert_eq!(mmio64(256 << 20, 36), 4 * GIB..64 * GIB);
        assert!(mmio64(1 << 40, 40).is_empty());
    }

    #[test]
    fn an_initrd_that_would_meet_the_kernel_does_not_fit() {
        assert_eq!(
            initrd_address(0x1001, 0x10_0000, 0x20_0000),
            Some(0x1f_e000)
        );
        assert_eq!(
            initrd_address(0x10_0000, 0x10_0000, 0x20_0000),
            Some(0x10_0000)
        );
        assert_eq!(initrd_address(0x10_0001, 0x10_0000, 0x20_0000), None);
        assert_eq!(initrd_address(u64::MAX, 0, 0x20_0000), None);
    }
}
