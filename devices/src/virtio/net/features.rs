//! Which features the device has (virtio 1.2, 5.1.3).

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_STATUS,
};

/// The bit of a feature.
pub(super) const fn bit(feature: u32) -> u64 {
    1 << feature
}

/// What every device offers beside what its port can do.
const ALWAYS: u64 = bit(VIRTIO_NET_F_CSUM)
    | bit(VIRTIO_NET_F_HOST_TSO4)
    | bit(VIRTIO_NET_F_HOST_TSO6)
    | bit(VIRTIO_NET_F_HOST_ECN)
    | bit(VIRTIO_NET_F_MTU)
    | bit(VIRTIO_NET_F_MRG_RXBUF)
    | bit(VIRTIO_NET_F_STATUS)
    | bit(VIRTIO_NET_F_CTRL_VQ)
    | bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);

/// What the guest may be given unfinished: frames without checksum, and segments not yet cut.
pub(super) const GUEST_OFFLOADS: u64 = bit(VIRTIO_NET_F_GUEST_CSUM) | BIG;

/// Features that make received frames longer than the MTU.
const BIG: u64 =
    bit(VIRTIO_NET_F_GUEST_TSO4) | bit(VIRTIO_NET_F_GUEST_TSO6) | bit(VIRTIO_NET_F_GUEST_ECN) | USO;

/// UDP segments. Kernels before 6.2 do not know them.
pub(super) const USO: u64 = bit(VIRTIO_NET_F_GUEST_USO4) | bit(VIRTIO_NET_F_GUEST_USO6);

/// What a device offers whose port can leave `offloads` to the guest.
pub(super) fn offered(offloads: u64, mac: bool, several_pairs: bool) -> u64 {
    let when = |condition, feature| if condition { bit(feature) } else { 0 };
    // A kernel that cuts UDP segments for the host does so for the guest.
    ALWAYS
        | offloads & GUEST_OFFLOADS
        | when(offloads & USO == USO, VIRTIO_NET_F_HOST_USO)
        | when(mac, VIRTIO_NET_F_MAC)
        | when(several_pairs, VIRTIO_NET_F_MQ)
}

/// What is left to a guest that agreed on `features`: nothing without checksums, on which all others depend (5.1.3.1).
pub(super) fn left_to_guest(features: u64) -> u64 {
    if features & bit(VIRTIO_NET_F_GUEST_CSUM) == 0 {
        0
    } else {
        features & GUEST_OFFLOADS
    }
}

/// Whether a guest that agreed on `features` can get frames longer than the MTU.
pub(super) fn gets_big_frames(features: u64) -> bool {
    left_to_guest(features) & BIG != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_segments_are_offered_only_if_the_port_knows_them() {
        let host = bit(VIRTIO_NET_F_HOST_USO);
        assert_eq!(
            offered(GUEST_OFFLOADS, true, true) & (USO | host),
            USO | host
        );
        assert_eq!(offered(GUEST_OFFLOADS & !USO, true, true) & (USO | host), 0);
        assert_eq!(offered(0, false, false) & bit(VIRTIO_NET_F_MAC), 0);
        assert_eq!(offered(0, false, false) & bit(VIRTIO_NET_F_MQ), 0);
    }

    #[test]
    fn nothing_is_left_to_a_guest_that_cannot_checksum() {
        let segments = bit(VIRTIO_NET_F_GUEST_TSO4);
        assert_eq!(left_to_guest(segments), 0);
        assert!(!gets_big_frames(segments));
        let both = segments | bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_CSUM);
        assert_eq!(left_to_guest(both), segments | bit(VIRTIO_NET_F_GUEST_CSUM));
        assert!(gets_big_frames(both));
        assert!(!gets_big_frames(bit(VIRTIO_NET_F_GUEST_CSUM)));
    }
}
