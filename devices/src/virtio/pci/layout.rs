//! What lies where in the one BAR, and the capabilities that tell the driver (virtio 1.2, 4.1.4).

use crate::pci::bar::{Bar, BarWidth};
use crate::pci::capability::{Capability, VENDOR_SPECIFIC};

/// The BAR.
pub(super) const BAR: Bar = Bar {
    index: 0,
    size: 0x8000,
    width: BarWidth::Bits64,
};

/// Most queues of a device; keeps doorbells and the MSI-X table within their pages.
pub(super) const MAX_QUEUES: u16 = 64;
/// Bytes between two doorbells.
pub(super) const NOTIFY_STRIDE: u32 = 4;

/// A part of the BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    Common,
    Isr,
    Device,
    Notify,
    MsixTable,
    MsixPending,
}

/// Regions in order: where each begins, how long it is, and the capability type that names it.
const REGIONS: [(Region, u32, u32, Option<u8>); 6] = [
    (Region::Common, 0x0000, 0x38, Some(1)),
    (Region::Isr, 0x1000, 1, Some(3)),
    (Region::Device, 0x2000, 0x1000, Some(4)),
    (
        Region::Notify,
        NOTIFY_OFFSET,
        MAX_QUEUES as u32 * NOTIFY_STRIDE,
        Some(2),
    ),
    (Region::MsixTable, TABLE_OFFSET, 0x1000, None),
    (Region::MsixPending, PENDING_OFFSET, 0x1000, None),
];

/// Where the doorbells begin.
pub(super) const NOTIFY_OFFSET: u32 = 0x3000;
/// Where the MSI-X table begins.
pub(super) const TABLE_OFFSET: u32 = 0x4000;
/// Where the MSI-X pending bits begin.
pub(super) const PENDING_OFFSET: u32 = 0x5000;

/// The region that has all of `offset..offset + len`, and the offset in it.
pub(super) fn region(offset: u64, len: usize) -> Option<(Region, u64)> {
    REGIONS.iter().find_map(|(region, base, size, _)| {
        let inside = offset.checked_sub(u64::from(*base))?;
        let end = inside.checked_add(len as u64)?;
        (end <= u64::from(*size)).then_some((*region, inside))
    })
}

/// Type of the capability through which the BAR can be reached without mapping it (virtio 1.2, 4.1.4.9).
const WINDOW: u8 = 5;
/// Registers of that capability: index of the BAR, offset in it, length of the access, data.
pub(super) const WINDOW_BAR: u16 = 4;
pub(super) const WINDOW_OFFSET: u16 = 8;
pub(super) const WINDOW_LENGTH: u16 = 12;
pub(super) const WINDOW_DATA: u16 = 16;

/// The capabilities that name regions. `device_config` is how much of that region there is.
pub(super) fn regions(queues: u16, device_config: u32) -> impl Iterator<Item = Capability> {
    REGIONS
        .iter()
        .filter_map(move |(region, base, size, kind)| {
            let size = match region {
                Region::Device => device_config,
                Region::Notify => u32::from(queues).saturating_mul(NOTIFY_STRIDE),
                _ => *size,
            };
            let kind = (*kind).filter(|_| size > 0)?;
            let tail = (*region == Region::Notify).then_some(NOTIFY_STRIDE);
            let body = body(kind, *base, size, tail);
            Some(Capability::new(VENDOR_SPECIFIC, body))
        })
}

/// The capability that reaches into the BAR.
pub(super) fn window() -> Capability {
    Capability {
        id: VENDOR_SPECIFIC,
        body: body(WINDOW, 0, 0, Some(0)),
        // From byte 2: length and type; BAR; id and padding; offset, length, data.
        writable: [&[0, 0, 0xff, 0, 0, 0][..], &[0xff; 12]].concat(),
    }
}

/// `struct virtio_pci_cap` from its third byte, with one more word if there is a `tail`.
fn body(kind: u8, offset: u32, len: u32, tail: Option<u32>) -> Vec<u8> {
    let size = if tail.is_some() { 20 } else { 16 };
    let mut body = vec![size, kind, BAR.index, 0, 0, 0];
    body.extend(offset.to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(tail.iter().flat_map(|word| word.to_le_bytes()));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap_and_fit() {
        let mut end = 0;
        for (region, base, size, _) in REGIONS {
            assert!(base >= end, "{region:?}");
            end = base + size;
        }
        assert!(u64::from(end) <= BAR.size);
    }

    #[test]
    fn accesses_across_the_end_of_a_region_hit_nothing() {
        assert_eq!(region(0x36, 2), Some((Region::Common, 0x36)));
        assert_eq!(region(0x37, 2), None);
        assert_eq!(region(0x1000, 1), Some((Region::Isr, 0)));
        assert_eq!(region(0x1000, 4), None);
        assert_eq!(region(0x7fff, 1), None);
        assert_eq!(region(u64::MAX, 8), None);
    }
}
