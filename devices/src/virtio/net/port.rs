//! The host's end of an interface, as the device sees it.

use std::io;
use std::os::fd::AsFd;

/// One queue of the host's end. Each read of its descriptor gives one packet, each write takes one: a header
/// (`struct virtio_net_hdr` of 12 bytes) and a frame. Neither blocks.
pub trait Port: AsFd + Send {
    /// The offloads it could leave to a guest, as feature bits `VIRTIO_NET_F_GUEST_*`.
    fn offloads(&self) -> u64;
    /// From now on leaves exactly `offloads` to the guest.
    fn set_offloads(&self, offloads: u64) -> io::Result<()>;
    /// Takes this queue into use, or out of it: packets then go to the other ones.
    fn set_attached(&mut self, attached: bool) -> io::Result<()>;
}
