//! virtio 1.2 devices over PCI.
//!
//! A device ([`device::VirtioDevice`]) is parsing and executing requests. Everything that all devices share stands once:
//! rings in [`queue`], status and feature negotiation in the transport, threads and waiting in the worker.

pub mod blk;
pub mod chain;
pub mod console;
pub mod device;
pub mod fs;
#[cfg(any(test, fuzzing))]
pub mod mock;
pub mod net;
pub mod pci;
pub mod queue;
pub mod rng;
mod seat;
mod used;
pub mod vsock;
pub mod worker;
