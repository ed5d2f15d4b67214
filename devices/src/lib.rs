//! The machine's devices: buses, interrupts as traits, PCI, virtio.
//!
//! Nothing here knows KVM, JSON or a command line. A device gets eventfds, the traits of [`irq`] and guest memory, so
//! that each is tested with mocks and without `/dev/kvm`. May depend on the rust-vmm crates and on no crate of husk.
//!
//! Everything a guest writes reaches a device through [`bus`] (registers) or [`virtio::queue`] (requests). Both hand on
//! checked values only.

#![cfg_attr(
    not(any(test, fuzzing)),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        reason = "a guest chooses the values that devices compute with: nothing it writes may panic or wrap"
    )
)]

pub mod bus;
pub mod event_loop;
pub mod irq;
pub mod legacy;
pub mod log_limit;
pub mod memory;
pub mod pci;
pub mod virtio;
