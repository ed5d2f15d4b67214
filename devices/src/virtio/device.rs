//! What a virtio device is to the transport and the worker.
//!
//! ```text
//!   inactive --activate(queues)--> active --process_queue / process_events--> active
//!      ^                             |
//!      +---------- reset ------------+
//! ```
//!
//! The device is owned by its worker: all methods below `activate` run on the worker's thread, one at a time. The transport
//! keeps the facts (kind, features, queue sizes, config) it was given at the start and never calls the device itself.

use std::error::Error as _;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::queue::{QueueError, RequestQueue};
use crate::irq::Interrupt;

/// Device ids (virtio 1.2, 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum DeviceType {
    /// Network interface.
    Net = 1,
    /// Block device.
    Blk = 2,
    /// Console.
    Console = 3,
    /// Entropy source.
    Rng = 4,
    /// Socket device.
    Vsock = 19,
    /// File system.
    Fs = 26,
}

impl DeviceType {
    /// Name for logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Blk => "blk",
            Self::Console => "console",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
            Self::Fs => "fs",
        }
    }
}

/// What a device gets when the driver has set `DRIVER_OK`.
pub struct Activation {
    /// The queues the driver enabled, by index; `None` where it enabled none.
    pub queues: Vec<Option<RequestQueue>>,
    /// The features both sides agreed on.
    pub features: u64,
    /// Raises the configuration-change interrupt.
    pub config_changed: Arc<dyn Interrupt>,
}

/// The device cannot go on with this driver: the transport sets `DEVICE_NEEDS_RESET` (virtio 1.2, 2.1.2), the worker stops calling
/// the device until the driver has reset it. Caused by the guest, never fatal to the VMM.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {reason}")]
pub struct NeedsReset {
    /// Name of the device's kind.
    pub device: &'static str,
    /// What the driver did.
    pub reason: String,
}

impl NeedsReset {
    /// The driver broke a ring of `device`.
    #[must_use]
    pub fn ring(device: &'static str, error: &QueueError) -> Self {
        let reason = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self { device, reason }
    }
}

/// A virtio device. No method may panic, block for long, or allocate by a size the guest chose without a named limit.
pub trait VirtioDevice: Send {
    /// Its kind.
    fn device_type(&self) -> DeviceType;
    /// Largest size of each queue, a power of two.
    fn queue_sizes(&self) -> &[u16];
    /// Device-specific feature bits. The transport adds `VERSION_1`, `RING_INDIRECT_DESC`, `RING_EVENT_IDX`.
    fn features(&self) -> u64 {
        0
    }
    /// The device-specific configuration (virtio 1.2, 5.x.4), which the driver only reads.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The driver is ready. The worker watches the queues' doorbells and calls `process_queue`.
    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset>;
    /// Queue `index` was kicked: take requests until `pop` gives none, then wait for the next kick. Called only for queues
    /// that the driver enabled, and once for each right after activation.
    fn process_queue(&mut self, index: usize) -> Result<(), NeedsReset>;
    /// A descriptor beside the queues that the worker is to watch for reading. Asked again after each call below: a device
    /// that cannot take more says `None` for a while. It must be one that epoll takes, and stay open until the device goes.
    fn event_fd(&self) -> Option<RawFd> {
        None
    }
    /// That descriptor is readable.
    fn process_events(&mut self) -> Result<(), NeedsReset> {
        Ok(())
    }
    /// Forgets the driver: finishes or drops requests in flight, drops the queues. Afterwards `activate` may come again.
    fn reset(&mut self);
    /// Counters for the API, by name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
