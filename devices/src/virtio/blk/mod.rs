//! Block device (virtio 1.2, 5.2): a raw image or a block device of the host.
//!
//! ```text
//!   chain ── request (parse, check) ──► backend (execute) ──► status byte
//! ```
//!
//! Requests are executed in order on the device's worker. Without `FLUSH` negotiated each write is durable before it is
//! completed; with it, after the next flush.

mod backend;
mod limits;
mod request;
#[cfg(test)]
mod tests;
mod vectored;

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK,
    VIRTIO_BLK_S_UNSUPP,
};
use vm_memory::VolatileSlice;

pub use self::backend::{Backend, BackendError};
use self::limits::{
    MAX_DATA_SEGMENTS, MAX_DISCARD_SECTORS, MAX_SEGMENTS, MAX_ZEROES_SECTORS, QUEUE_SIZE,
};
use self::request::{Extent, Geometry, ID_BYTES, Request, RequestError, SECTOR};
use super::device::{Activation, DeviceType, NeedsReset, VirtioDevice};
use super::queue::{Buffer, Chain, QueueError, RequestQueue};
use crate::log_limit::LogLimit;

const NAME: &str = "blk";
const QUEUE_SIZES: [u16; 1] = [QUEUE_SIZE];

/// How a request ended.
enum Outcome {
    /// Done; this many bytes of data were written to guest memory.
    Done(u64),
    /// Refused or failed: a status of virtio.
    Failed(u32),
}

/// The device.
pub struct Blk {
    backend: Backend,
    serial: [u8; ID_BYTES],
    features: u64,
    queue: Option<RequestQueue>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    reads: u64,
    writes: u64,
    flushes: u64,
    errors: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Blk {
    /// A disk of `backend`. `serial` is cut to 20 bytes.
    #[must_use]
    pub fn new(backend: Backend, serial: &str) -> Self {
        let mut id = [0; ID_BYTES];
        id.iter_mut()
            .zip(serial.bytes())
            .for_each(|(to, from)| *to = from);
        Self {
            backend,
            serial: id,
            features: 0,
            queue: None,
            counters: Counters::default(),
        }
    }

    fn serve(&mut self) -> Result<(), QueueError> {
        let Some(mut queue) = self.queue.take() else {
            return Ok(());
        };
        let outcome = self.serve_queue(&mut queue);
        self.queue = Some(queue);
        outcome
    }

    fn serve_queue(&mut self, queue: &mut RequestQueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            let written = self.handle(&chain)?;
            queue.complete(chain.head(), written)?;
        }
        queue.notify()
    }

    /// Executes one request and writes its status. Returns how many bytes of guest memory are written.
    fn handle(&mut self, chain: &Chain) -> Result<u32, QueueError> {
        let geometry = Geometry {
            bytes: self.backend.bytes(),
            block: self.backend.block().into(),
        };
        let outcome = match Request::parse(chain, geometry) {
            Ok(request) => self.execute(chain, request),
            Err(RequestError::Shape) => {
                self.counters.errors = self.counters.errors.saturating_add(1);
                return Ok(0);
            }
            Err(RequestError::Queue(error)) => return Err(error),
            Err(RequestError::Unsupported) => Outcome::Failed(VIRTIO_BLK_S_UNSUPP),
            Err(RequestError::Range) => Outcome::Failed(VIRTIO_BLK_S_IOERR),
        };
        let (status, data) = match outcome {
            Outcome::Done(data) => (VIRTIO_BLK_S_OK, data),
            Outcome::Failed(status) => {
                self.counters.errors = self.counters.errors.saturating_add(1);
                (status, 0)
            }
        };
        let [status, ..] = status.to_le_bytes();
        chain.write_at(chain.writable_len().saturating_sub(1), &[status])?;
        // The last byte counts only if all bytes before it do (virtio 1.2, 2.7.8.2).
        let before = chain.writable_len().saturating_sub(1);
        let written = if data == before {
            data.saturating_add(1)
        } else {
            data
        };
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn execute(&mut self, chain: &Chain, request: Request) -> Outcome {
        let result = match request {
            Request::Read(offset, buffers) => {
                self.counters.reads = self.counters.reads.saturating_add(1);
                let len = buffers.iter().map(|buffer| u64::from(buffer.len)).sum();
                self.counters.read_bytes = self.counters.read_bytes.saturating_add(len);
                slices(chain, &buffers)
                    .and_then(|slices| self.backend.read(&slices, offset))
                    .map(|()| len)
            }
            Request::GetId => chain
                .write_at(0, &self.serial)
                .map(|written| written as u64)
                .map_err(io::Error::other),
            Request::Flush => {
                self.counters.flushes = self.counters.flushes.saturating_add(1);
                self.backend.flush().map(|()| 0)
            }
            // The driver knows by F_RO; the file would refuse, too.
            _ if self.backend.read_only() => return Outcome::Failed(VIRTIO_BLK_S_IOERR),
            Request::Write(offset, buffers) => self.write(chain, offset, &buffers).map(|()| 0),
            Request::Discard(_) if !self.has(VIRTIO_BLK_F_DISCARD) => {
                return Outcome::Failed(VIRTIO_BLK_S_UNSUPP);
            }
            Request::WriteZeroes(_) if !self.has(VIRTIO_BLK_F_WRITE_ZEROES) => {
                return Outcome::Failed(VIRTIO_BLK_S_UNSUPP);
            }
            Request::Discard(extents) => self.each(&extents, |backend, extent| {
                backend.discard(extent.offset, extent.len)
            }),
            Request::WriteZeroes(extents) => self.each(&extents, |backend, extent| {
                backend.write_zeroes(extent.offset, extent.len, extent.unmap)
            }),
        };
        match result {
            Ok(data) => Outcome::Done(data),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                Outcome::Failed(VIRTIO_BLK_S_UNSUPP)
            }
            Err(error) => {
                static LIMIT: LogLimit = LogLimit::new();
                if LIMIT.allows() {
                    log::warn!("disk request failed: {error}");
                }
                Outcome::Failed(VIRTIO_BLK_S_IOERR)
            }
        }
    }

    fn write(&mut self, chain: &Chain, offset: u64, buffers: &[Buffer]) -> io::Result<()> {
        let len = buffers.iter().map(|buffer| u64::from(buffer.len)).sum();
        self.counters.writes = self.counters.writes.saturating_add(1);
        self.counters.written_bytes = self.counters.written_bytes.saturating_add(len);
        let slices = slices(chain, buffers)?;
        self.backend.write(&slices, offset)?;
        self.settle()
    }

    fn each(
        &self,
        extents: &[Extent],
        act: impl Fn(&Backend, &Extent) -> io::Result<()>,
    ) -> io::Result<u64> {
        for extent in extents {
            act(&self.backend, extent)?;
        }
        self.settle().map(|()| 0)
    }

    /// A driver that cannot flush may take each completed write for durable (virtio 1.2, 5.2.6.2).
    fn settle(&self) -> io::Result<()> {
        if self.has(VIRTIO_BLK_F_FLUSH) {
            Ok(())
        } else {
            self.backend.flush()
        }
    }

    fn has(&self, feature: u32) -> bool {
        self.features & bit(feature) != 0
    }
}

fn bit(feature: u32) -> u64 {
    1_u64.checked_shl(feature).unwrap_or(0)
}

fn slices<'a>(chain: &'a Chain, buffers: &[Buffer]) -> io::Result<Vec<VolatileSlice<'a>>> {
    chain.slices(buffers).map_err(io::Error::other)
}

impl VirtioDevice for Blk {
    fn device_type(&self) -> DeviceType {
        DeviceType::Blk
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        let always =
            bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_FLUSH);
        let also = if self.backend.read_only() {
            bit(VIRTIO_BLK_F_RO)
        } else {
            bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)
        };
        always | also
    }

    /// `struct virtio_blk_config` up to write_zeroes_may_unmap (virtio 1.2, 5.2.4). Fields of features not offered are 0.
    fn config(&self) -> Vec<u8> {
        let block = self.backend.block();
        let block_sectors = block / SECTOR;
        let mut config = Vec::new();
        config.extend(self.backend.sectors().to_le_bytes());
        // size_max, seg_max, geometry, blk_size, topology and writeback to num_queues.
        for word in [0, MAX_DATA_SEGMENTS, 0, block, 0, 0, 0] {
            config.extend(word.to_le_bytes());
        }
        for word in [MAX_DISCARD_SECTORS, MAX_SEGMENTS, block_sectors] {
            config.extend(word.to_le_bytes());
        }
        for word in [MAX_ZEROES_SECTORS, MAX_SEGMENTS] {
            config.extend(word.to_le_bytes());
        }
        config.extend([1, 0, 0, 0]);
        config
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        self.features = activation.features;
        self.queue = activation.queues.into_iter().next().flatten();
        Ok(())
    }

    fn process_queue(&mut self, _index: usize) -> Result<(), NeedsReset> {
        self.serve().map_err(|error| NeedsReset::ring(NAME, &error))
    }

    fn reset(&mut self) {
        self.queue = None;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        vec![
            ("reads", counters.reads),
            ("writes", counters.writes),
            ("flushes", counters.flushes),
            ("errors", counters.errors),
            ("read_bytes", counters.read_bytes),
            ("written_bytes", counters.written_bytes),
        ]
    }
}
