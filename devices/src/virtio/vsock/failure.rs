//! Why the device cannot go on with its driver.

use std::io;

use crate::virtio::device::NeedsReset;
use crate::virtio::queue::QueueError;

/// Either the guest broke a queue, or the host could not serve it. Both end in a reset of the device.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The guest's doing.
    #[error("{0}")]
    Queue(#[from] QueueError),
    /// The host's.
    #[error("host side: {0}")]
    Host(#[from] io::Error),
}

impl From<Failure> for NeedsReset {
    fn from(failure: Failure) -> Self {
        Self {
            device: "vsock",
            reason: failure.to_string(),
        }
    }
}
