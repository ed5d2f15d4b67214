//! Packets to the guest: into the buffers of its receive queue (queue 0).

use std::io;
use std::mem;

use vm_memory::VolatileSlice;

use super::limits::{MAX_BATCH, MAX_PAYLOAD, MAX_PIECES};
use super::packet::{HEADER_LEN, HEADER_SIZE, Header};
use super::pieces::cut;
use crate::virtio::queue::{Chain, QueueError, RequestQueue};

/// The receive queue.
pub(super) struct Rx {
    queue: RequestQueue,
    /// Something was completed since the last interrupt.
    dirty: bool,
    /// Packets and bytes of payload sent since they were last taken.
    packets: u64,
    bytes: u64,
    /// Spare storage for [`Rx::send_data`].
    batch: Vec<Slot>,
}

/// A receive buffer, and the payload it has room for.
struct Slot {
    chain: Chain,
    room: u32,
}

/// What became of a read into the guest's buffers.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The guest has no buffer; it kicks when it has.
    NoBuffer,
    /// Read this much. `all`: as much as was asked for, so there may be more.
    Sent {
        /// Bytes.
        len: u32,
        /// Whether the read was not cut short.
        all: bool,
    },
    /// The source had nothing, or has ended or failed.
    Source(io::Result<()>),
}

impl Rx {
    pub(super) fn new(queue: RequestQueue) -> Self {
        Self {
            queue,
            dirty: false,
            packets: 0,
            bytes: 0,
            batch: Vec::with_capacity(MAX_BATCH),
        }
    }

    /// Sends a packet without payload. Returns whether the guest had a buffer.
    pub(super) fn send(&mut self, header: &Header) -> Result<bool, QueueError> {
        while let Some(chain) = self.queue.pop()? {
            let written = chain.write_at(0, &header.bytes())?;
            self.dirty = true;
            if written == HEADER_LEN {
                self.complete(&chain, 0)?;
                return Ok(true);
            }
            // Too small for any packet: useless, given back.
            self.queue.complete(chain.head(), 0)?;
        }
        Ok(false)
    }

    /// Reads at most `limit` bytes from `source` into at most `buffers` buffers, each behind the header that `stamp` makes for its
    /// part.
    pub(super) fn send_data(
        &mut self,
        (limit, buffers): (u32, usize),
        source: impl FnOnce(&[VolatileSlice<'_>]) -> io::Result<usize>,
        stamp: impl FnMut(u32) -> Header,
    ) -> Result<Outcome, QueueError> {
        let mut batch = mem::take(&mut self.batch);
        let wanted = self.gather(&mut batch, limit, buffers)?;
        let outcome = if batch.is_empty() {
            Outcome::NoBuffer
        } else {
            let outcome = read(&batch, wanted, source)?;
            let len = match outcome {
                Outcome::Sent { len, .. } => len,
                _ => 0,
            };
            self.hand_out(&batch, len, stamp)?;
            outcome
        };
        batch.clear();
        self.batch = batch;
        Ok(outcome)
    }

    /// Takes buffers for up to `limit` bytes. Returns for how many they are.
    fn gather(
        &mut self,
        batch: &mut Vec<Slot>,
        limit: u32,
        buffers: usize,
    ) -> Result<u32, QueueError> {
        let mut wanted = 0_u32;
        let mut pieces = 0_usize;
        while wanted < limit && batch.len() < buffers.min(MAX_BATCH) && pieces < MAX_PIECES {
            let Some(chain) = self.queue.pop()? else {
                break;
            };
            let room = chain.writable_len().saturating_sub(HEADER_SIZE.into());
            let room = u32::try_from(room).unwrap_or(MAX_PAYLOAD);
            let room = room.min(MAX_PAYLOAD).min(limit.saturating_sub(wanted));
            if room == 0 && batch.is_empty() {
                self.queue.complete(chain.head(), 0)?;
                self.dirty = true;
                continue;
            }
            if room == 0 {
                // Only the buffers taken last can be put back, so this one must wait.
                self.queue.undo_pop();
                break;
            }
            wanted = wanted.saturating_add(room);
            pieces = pieces.saturating_add(chain.writable().len());
            batch.push(Slot { chain, room });
        }
        Ok(wanted)
    }

    /// Completes the buffers that `len` bytes went into, and puts the others back.
    fn hand_out(
        &mut self,
        batch: &[Slot],
        mut len: u32,
        mut stamp: impl FnMut(u32) -> Header,
    ) -> Result<(), QueueError> {
        for slot in batch {
            let part = len.min(slot.room);
            if part == 0 {
                self.queue.undo_pop();
                continue;
            }
            len = len.saturating_sub(part);
            slot.chain.write_at(0, &stamp(part).bytes())?;
            self.complete(&slot.chain, part)?;
        }
        Ok(())
    }

    fn complete(&mut self, chain: &Chain, payload: u32) -> Result<(), QueueError> {
        self.dirty = true;
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(payload.into());
        let written = payload.saturating_add(HEADER_SIZE);
        self.queue.complete(chain.head(), written)
    }

    /// Packets and bytes of payload sent since the last call.
    pub(super) fn take_traffic(&mut self) -> (u64, u64) {
        (mem::take(&mut self.packets), mem::take(&mut self.bytes))
    }

    /// Interrupts the guest if anything was sent since the last call.
    pub(super) fn notify(&mut self) -> Result<(), QueueError> {
        if mem::take(&mut self.dirty) {
            self.queue.notify()?;
        }
        Ok(())
    }
}

fn read(
    batch: &[Slot],
    wanted: u32,
    source: impl FnOnce(&[VolatileSlice<'_>]) -> io::Result<usize>,
) -> Result<Outcome, QueueError> {
    let mut pieces = Vec::new();
    for slot in batch {
        let all = slot.chain.slices(slot.chain.writable())?;
        pieces.extend(cut(&all, HEADER_LEN, slot.room as usize));
    }
    Ok(match source(&pieces) {
        Ok(0) => Outcome::Source(Ok(())),
        Ok(len) => {
            let len = u32::try_from(len).unwrap_or(wanted).min(wanted);
            Outcome::Sent {
                len,
                all: len == wanted,
            }
        }
        Err(error) => Outcome::Source(Err(error)),
    })
}
