//! What one interface may ask for.

use super::header::HEADER_BYTES;

/// Most pairs of queues. All are served by one thread, so more would only spread the guest's interrupts.
pub const MAX_QUEUE_PAIRS: u16 = 8;
/// Size of each receive and transmit queue.
pub(super) const QUEUE_SIZE: u16 = 256;
/// Size of the control queue.
pub(super) const CONTROL_SIZE: u16 = 64;

/// Bytes of an Ethernet header: the shortest frame.
pub(super) const ETHERNET_HEADER: usize = 14;
/// Bytes of a VLAN tag.
const VLAN_TAG: usize = 4;
/// What a frame has beside the packet that the MTU counts.
pub(super) const FRAME_BESIDE_MTU: usize = ETHERNET_HEADER + VLAN_TAG;
/// Longest frame: an IP packet of 65,535 bytes, segmented later (virtio 1.2, 5.1.6.3.1).
pub(super) const MAX_FRAME: usize = 65_535 + ETHERNET_HEADER + VLAN_TAG;
/// The same with its header.
pub(super) const MAX_PACKET: usize = MAX_FRAME + HEADER_BYTES;

/// Least bytes of a segment, as in Linux (`TCP_MIN_SND_MSS` less all options): one frame cannot become 65,535 packets.
pub(super) const MIN_SEGMENT: usize = 8;

/// Pieces of memory for one packet: what one system call takes, less the one of the VMM's own.
pub(super) const MAX_PIECES: usize = libc::UIO_MAXIOV as usize - 1;
/// Packets received between two looks at the other queues.
pub(super) const RECEIVE_BURST: usize = 64;
