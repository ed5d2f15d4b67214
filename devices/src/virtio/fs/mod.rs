//! virtio-fs (virtio 1.2, 5.11): a directory of the host as a file system of the guest.
//!
//! This file is the device; [`server`] is the seam to fuse-backend-rs, which does the file system calls; `request` keeps what
//! a hostile guest may send away from it. Runs on a worker thread of its own: file system calls block.
//!
//! Confinement is not made here: the VMM serves from a mount namespace that holds nothing but the shares.

mod fsetid;
mod negotiate;
mod reply;
mod request;
mod server;
mod sync;
#[cfg(test)]
mod tests;
mod thread;

use std::io;

use super::device::{Activation, DeviceType, NeedsReset, VirtioDevice};
use super::queue::{QueueError, RequestQueue};
use server::FsServer;
pub use server::{Cache, Options};
pub use thread::prepare_thread;

/// Longest tag, in bytes (virtio 1.2, 5.11.4).
pub const MAX_TAG: usize = 36;

/// High-priority queue: only `FORGET`.
const HIPRIO_SIZE: u16 = 128;
/// Request queue: a request of 256 pages with its headers, four times.
const REQUEST_SIZE: u16 = 1024;
const QUEUE_SIZES: &[u16] = &[HIPRIO_SIZE, REQUEST_SIZE];
/// Request queues beside the high-priority one.
const REQUEST_QUEUES: u32 = 1;

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The tag is empty, too long, or contains a NUL.
    #[error("tag `{0}` is not 1 to {MAX_TAG} bytes without NUL")]
    Tag(String),
    /// The server could not start.
    #[error("cannot open /proc/self")]
    Proc(#[source] io::Error),
}

/// The device.
pub struct FsDevice {
    tag: [u8; MAX_TAG],
    server: FsServer,
    queues: Vec<Option<RequestQueue>>,
    requests: u64,
    refused: u64,
}

impl FsDevice {
    /// A device that the guest mounts by `tag`. Must be made while `/proc` can be seen; opens the served directory only when
    /// the guest mounts it.
    pub fn new(tag: &str, options: &Options) -> Result<Self, FsError> {
        Ok(Self {
            tag: padded(tag).ok_or_else(|| FsError::Tag(tag.to_owned()))?,
            server: FsServer::new(options).map_err(FsError::Proc)?,
            queues: Vec::new(),
            requests: 0,
            refused: 0,
        })
    }

    fn serve(&mut self, index: usize) -> Result<(), QueueError> {
        let Some(Some(queue)) = self.queues.get_mut(index) else {
            return Ok(());
        };
        while let Some(chain) = queue.pop()? {
            let outcome = self.server.handle(&chain);
            self.requests = self.requests.saturating_add(1);
            self.refused = self.refused.saturating_add(u64::from(outcome.refused));
            queue.complete(chain.head(), outcome.written)?;
            queue.notify()?;
        }
        Ok(())
    }
}

fn padded(tag: &str) -> Option<[u8; MAX_TAG]> {
    let mut bytes = [0; MAX_TAG];
    let part = bytes.get_mut(..tag.len())?;
    part.copy_from_slice(tag.as_bytes());
    (!tag.is_empty() && !tag.contains('\0')).then_some(bytes)
}

impl VirtioDevice for FsDevice {
    fn device_type(&self) -> DeviceType {
        DeviceType::Fs
    }

    fn queue_sizes(&self) -> &[u16] {
        QUEUE_SIZES
    }

    fn config(&self) -> Vec<u8> {
        [&self.tag[..], &REQUEST_QUEUES.to_le_bytes()].concat()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        self.queues = activation.queues;
        Ok(())
    }

    fn process_queue(&mut self, index: usize) -> Result<(), NeedsReset> {
        self.serve(index)
            .map_err(|error| NeedsReset::ring("fs", &error))
    }

    fn reset(&mut self) {
        self.queues.clear();
        self.server.forget_guest();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("requests", self.requests), ("refused", self.refused)]
    }
}
