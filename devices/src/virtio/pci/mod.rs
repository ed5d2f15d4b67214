//! virtio over PCI (virtio 1.2, 4.1), modern only: vendor 0x1af4, device 0x1040 + type, revision 1.
//!
//! One 64-bit BAR has everything; [`layout`] says where.

mod common_config;
mod interrupts;
mod layout;
mod negotiation;
mod queue_config;
mod status;
mod transport;

pub use transport::{TransportError, VirtioPci};
