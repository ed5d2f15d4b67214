//! The header in front of each frame, `struct virtio_net_hdr` (virtio 1.2, 5.1.6), as a driver sends it.
//!
//! It is copied out of guest memory once and checked; the host's kernel gets the copy, never what the guest may have made of the
//! original meanwhile.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
};

use super::features::bit;
use super::limits::{ETHERNET_HEADER, MAX_FRAME, MIN_SEGMENT};

/// Bytes of the header: modern devices always have the field `num_buffers`.
pub(super) const HEADER_BYTES: usize = 12;
/// Where `num_buffers` stands.
pub(super) const NUM_BUFFERS: usize = 10;

/// A header as it came.
pub(super) type Header = [u8; HEADER_BYTES];

/// Whether a driver that agreed on `features` may send `header` before a frame of `frame` bytes.
pub(super) fn is_sound(header: &Header, frame: usize, features: u64) -> bool {
    let [
        flags,
        gso,
        _,
        _,
        size_0,
        size_1,
        start_0,
        start_1,
        offset_0,
        offset_1,
        ..,
    ] = *header;
    let word = |low, high| usize::from(u16::from_le_bytes([low, high]));
    let needs_checksum = match u32::from(flags) {
        0 => false,
        VIRTIO_NET_HDR_F_NEEDS_CSUM => true,
        // Others are the device's to set.
        _ => return false,
    };
    // The two bytes of the checksum lie within the frame.
    let checksum_end = word(start_0, start_1)
        .saturating_add(word(offset_0, offset_1))
        .saturating_add(2);
    let checksum = bit(VIRTIO_NET_F_CSUM) & features != 0 && checksum_end <= frame;
    // Who segments, checksums: a driver that leaves the one to us leaves us the other.
    let segments = segmentation(gso).is_some_and(|needed| match needed {
        0 => true,
        needed => {
            features & needed == needed && needs_checksum && word(size_0, size_1) >= MIN_SEGMENT
        }
    });
    (ETHERNET_HEADER..=MAX_FRAME).contains(&frame) && (!needs_checksum || checksum) && segments
}

/// The features that `gso_type` needs; `None` if there is no such type.
fn segmentation(gso: u8) -> Option<u64> {
    let ecn = u32::from(gso) & VIRTIO_NET_HDR_GSO_ECN != 0;
    let also = if ecn { bit(VIRTIO_NET_F_HOST_ECN) } else { 0 };
    match u32::from(gso) & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_NONE if !ecn => Some(0),
        VIRTIO_NET_HDR_GSO_TCPV4 => Some(bit(VIRTIO_NET_F_HOST_TSO4) | also),
        VIRTIO_NET_HDR_GSO_TCPV6 => Some(bit(VIRTIO_NET_F_HOST_TSO6) | also),
        VIRTIO_NET_HDR_GSO_UDP_L4 if !ecn => Some(bit(VIRTIO_NET_F_HOST_USO)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> Header {
        let mut header = [0; HEADER_BYTES];
        header[0] = flags;
        header[1] = gso;
        header[4..6].copy_from_slice(&size.to_le_bytes());
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
        header
    }

    const ALL: u64 = u64::MAX;

    #[test]
    fn plain_frames_are_sound_from_runt_to_giant() {
        let plain = header(0, 0, 0, 0, 0);
        for (frame, sound) in [
            (0, false),
            (13, false),
            (14, true),
            (65_553, true),
            (65_554, false),
        ] {
            assert_eq!(is_sound(&plain, frame, 0), sound, "{frame}");
        }
    }

    #[test]
    fn a_checksum_needs_the_feature_and_lies_within_the_frame() {
        let at = |start, offset| header(1, 0, 0, start, offset);
        assert!(is_sound(&at(34, 16), 60, bit(VIRTIO_NET_F_CSUM)));
        assert!(!is_sound(&at(34, 16), 60, 0));
        assert!(is_sound(&at(42, 16), 60, ALL));
        assert!(!is_sound(&at(43, 16), 60, ALL));
        assert!(!is_sound(&at(u16::MAX, u16::MAX), 60, ALL));
    }

    #[test]
    fn segmentation_needs_its_feature_a_size_and_a_checksum() {
        for (gso, feature) in [
            (1, VIRTIO_NET_F_HOST_TSO4),
            (4, VIRTIO_NET_F_HOST_TSO6),
            (5, VIRTIO_NET_F_HOST_USO),
        ] {
            let good = header(1, gso, 1448, 34, 16);
            let needed = bit(feature) | bit(VIRTIO_NET_F_CSUM);
            assert!(is_sound(&good, 9000, needed), "{gso}");
            assert!(!is_sound(&good, 9000, ALL & !bit(feature)), "{gso}");
            assert!(!is_sound(&header(0, gso, 1448, 34, 16), 9000, ALL));
            assert!(!is_sound(&header(1, gso, 7, 34, 16), 9000, ALL));
            assert!(is_sound(&header(1, gso, 8, 34, 16), 9000, ALL));
        }
        assert!(is_sound(&header(1, 0x81, 1448, 34, 16), 9000, ALL));
        let without = ALL & !bit(VIRTIO_NET_F_HOST_ECN);
        assert!(!is_sound(&header(1, 0x81, 1448, 34, 16), 9000, without));
    }

    #[test]
    fn other_flags_and_types_are_refused() {
        for flags in [2, 4, 8, 0x80, 0xff] {
            assert!(!is_sound(&header(flags, 0, 0, 0, 0), 60, ALL), "{flags}");
        }
        for gso in [2, 3, 6, 0x40, 0x80, 0x85, 0xff] {
            assert!(!is_sound(&header(1, gso, 1448, 34, 16), 9000, ALL), "{gso}");
        }
    }
}
