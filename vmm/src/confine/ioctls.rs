//! Request numbers of the ioctls that threads may make (Linux `include/uapi/linux/kvm.h`, `fs.h`), for the filters.

use std::mem::size_of;

use kvm_bindings::{KVMIO, kvm_ioeventfd, kvm_irq_routing, kvm_irqfd};

const NONE: u64 = 0;
const WRITE: u64 = 1;

/// `_IOC(direction, kind, number, size)` of `asm-generic/ioctl.h`.
const fn request(direction: u64, kind: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | kind << 8 | number
}

const fn kvm(direction: u64, number: u64, size: usize) -> u64 {
    request(direction, KVMIO as u64, number, size)
}

pub(super) const KVM_RUN: u64 = kvm(NONE, 0x80, 0);
pub(super) const KVM_SET_GSI_ROUTING: u64 = kvm(WRITE, 0x6a, size_of::<kvm_irq_routing>());
pub(super) const KVM_IRQFD: u64 = kvm(WRITE, 0x76, size_of::<kvm_irqfd>());
pub(super) const KVM_IOEVENTFD: u64 = kvm(WRITE, 0x79, size_of::<kvm_ioeventfd>());
pub(super) const KVM_KVMCLOCK_CTRL: u64 = kvm(NONE, 0xad, 0);

/// Makes a socket non-blocking.
pub(super) const FIONBIO: u64 = libc::FIONBIO;
/// Discards a range of a block device.
pub(super) const BLKDISCARD: u64 = request(NONE, 0x12, 119, 0);
/// Zeroes a range of a block device.
pub(super) const BLKZEROOUT: u64 = request(NONE, 0x12, 127, 0);
/// Sets what a tap leaves to its user.
pub(super) const TUNSETOFFLOAD: u64 = libc::TUNSETOFFLOAD;
/// Takes a queue of a tap into use, or out of it.
pub(super) const TUNSETQUEUE: u64 = libc::TUNSETQUEUE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_headers() {
        assert_eq!(KVM_RUN, 0xae80);
        assert_eq!(KVM_SET_GSI_ROUTING, 0x4008_ae6a);
        assert_eq!(KVM_IRQFD, 0x4020_ae76);
        assert_eq!(KVM_IOEVENTFD, 0x4040_ae79);
        assert_eq!(BLKDISCARD, 0x1277);
        assert_eq!(BLKZEROOUT, 0x127f);
    }
}
