//! The only owner of ring indices (virtio 1.2, 2.7: split virtqueues, with indirect descriptors and event index).
//!
//! A [`RequestQueue`] is made by the transport when the driver enables it, with addresses that were checked and then frozen.
//! A [`Chain`] is a snapshot: each descriptor is read once, the whole chain is checked before a device sees any of it.

use std::io;
use std::sync::Arc;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestAddressSpace, GuestMemory as _, GuestMemoryMmap,
    VolatileSlice,
};
use vmm_sys_util::eventfd::EventFd;

use crate::irq::Interrupt;
use crate::memory::{GuestMemory, MemorySnapshot};

/// What a driver did wrong with a ring.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The available ring moved by more than the queue's size, or cannot be read.
    #[error("available ring is inconsistent")]
    Available(#[source] virtio_queue::Error),
    /// The used ring or the event index cannot be written.
    #[error("used ring cannot be written")]
    Used(#[source] virtio_queue::Error),
    /// A loop, a link out of range, a bad indirect table, more than 4 GiB, or more descriptors than the queue has.
    #[error("descriptor chain {head} is malformed")]
    Malformed {
        /// Index of its first descriptor.
        head: u16,
    },
    /// A buffer is not wholly in guest memory.
    #[error("descriptor chain {head} has a buffer at {address:#x}+{len:#x} outside guest memory")]
    OutsideMemory {
        /// Index of its first descriptor.
        head: u16,
        /// Guest-physical address of the buffer.
        address: u64,
        /// Length in bytes.
        len: u32,
    },
    /// A readable descriptor follows a writable one (virtio 1.2, 2.7.4.2).
    #[error("descriptor chain {head} has a readable buffer after a writable one")]
    Order {
        /// Index of its first descriptor.
        head: u16,
    },
    /// The interrupt could not be raised.
    #[error("interrupt cannot be raised")]
    Interrupt(#[source] io::Error),
}

/// One buffer of a chain, wholly inside one region of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address.
    pub address: GuestAddress,
    /// Length in bytes.
    pub len: u32,
}

/// One request: buffers to read, then buffers to write.
pub struct Chain {
    memory: MemorySnapshot,
    raw: DescriptorChain<MemorySnapshot>,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

impl Chain {
    /// Index of the first descriptor: what [`RequestQueue::complete`] wants back.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.raw.head_index()
    }

    /// What the device may read, in order.
    #[must_use]
    pub fn readable(&self) -> &[Buffer] {
        &self.readable
    }

    /// What the device may write, in order.
    #[must_use]
    pub fn writable(&self) -> &[Buffer] {
        &self.writable
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        self.readable
            .iter()
            .map(|buffer| u64::from(buffer.len))
            .sum()
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        self.writable
            .iter()
            .map(|buffer| u64::from(buffer.len))
            .sum()
    }

    /// Guest memory as it was when the chain was taken.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The chain as the rust-vmm crates know it, for servers that take nothing else. It reads the descriptors again.
    #[must_use]
    pub fn raw(&self) -> DescriptorChain<MemorySnapshot> {
        self.raw.clone()
    }

    /// Host slices of `buffers`, for vectored I/O straight to and from guest memory.
    pub fn slices(&self, buffers: &[Buffer]) -> Result<Vec<VolatileSlice<'_>>, QueueError> {
        buffers.iter().map(|buffer| self.slice(*buffer)).collect()
    }

    fn slice(&self, buffer: Buffer) -> Result<VolatileSlice<'_>, QueueError> {
        self.memory
            .get_slice(buffer.address, buffer.len as usize)
            .map_err(|_| outside(self.head(), buffer))
    }

    /// Copies from the readable buffers, skipping `offset` bytes. Returns how many bytes there were, at most `data.len()`.
    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> Result<usize, QueueError> {
        let mut done = 0;
        for (buffer, skip) in skip_to(&self.readable, offset) {
            let rest = data.get_mut(done..).unwrap_or_default();
            let count = rest.len().min((buffer.len - skip) as usize);
            let part = rest.get_mut(..count).unwrap_or_default();
            let at = buffer.address.unchecked_add(u64::from(skip));
            self.memory
                .read_slice(part, at)
                .map_err(|_| outside(self.head(), buffer))?;
            done += count;
        }
        Ok(done)
    }

    /// Copies to the writable buffers, skipping `offset` bytes. Returns how many bytes there was room for.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<usize, QueueError> {
        let mut done = 0;
        for (buffer, skip) in skip_to(&self.writable, offset) {
            let rest = data.get(done..).unwrap_or_default();
            let count = rest.len().min((buffer.len - skip) as usize);
            let part = rest.get(..count).unwrap_or_default();
            let at = buffer.address.unchecked_add(u64::from(skip));
            self.memory
                .write_slice(part, at)
                .map_err(|_| outside(self.head(), buffer))?;
            done += count;
        }
        Ok(done)
    }

    fn check(
        memory: MemorySnapshot,
        raw: DescriptorChain<MemorySnapshot>,
    ) -> Result<Self, QueueError> {
        let head = raw.head_index();
        let mut chain = Self {
            memory,
            raw,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut complete = false;
        for descriptor in chain.raw.clone() {
            let buffer = Buffer {
                address: descriptor.addr(),
                len: descriptor.len(),
            };
            if !chain
                .memory
                .check_range(buffer.address, buffer.len as usize)
            {
                return Err(outside(head, buffer));
            }
            if descriptor.is_write_only() {
                chain.writable.push(buffer);
            } else if chain.writable.is_empty() {
                chain.readable.push(buffer);
            } else {
                return Err(QueueError::Order { head });
            }
            complete = !descriptor.has_next();
        }
        // The iterator ends early, without a word, at anything it cannot follow.
        if complete {
            Ok(chain)
        } else {
            Err(QueueError::Malformed { head })
        }
    }
}

fn outside(head: u16, buffer: Buffer) -> QueueError {
    QueueError::OutsideMemory {
        head,
        address: buffer.address.raw_value(),
        len: buffer.len,
    }
}

/// The buffers from `offset` bytes on, each with how many of its bytes to skip.
fn skip_to(buffers: &[Buffer], mut offset: u64) -> impl Iterator<Item = (Buffer, u32)> {
    buffers
        .iter()
        .filter_map(move |buffer| match u32::try_from(offset) {
            Ok(skip) if skip < buffer.len => {
                offset = 0;
                Some((*buffer, skip))
            }
            _ => {
                offset -= u64::from(buffer.len);
                None
            }
        })
}

/// A queue in use: rings, doorbell and interrupt.
pub struct RequestQueue {
    queue: Queue,
    memory: GuestMemory,
    kick: EventFd,
    interrupt: Arc<dyn Interrupt>,
}

impl RequestQueue {
    /// Takes over a queue that the driver enabled; the transport has checked its addresses (`Queue::is_valid`).
    pub fn new(
        queue: Queue,
        memory: GuestMemory,
        kick: EventFd,
        interrupt: Arc<dyn Interrupt>,
    ) -> Self {
        Self {
            queue,
            memory,
            kick,
            interrupt,
        }
    }

    /// Signalled when the driver has made requests available.
    #[must_use]
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// The next request. `Ok(None)` once the ring is empty: kicks are then enabled again, and none was missed.
    ///
    /// A chain that is malformed is given back to the driver unused, and is the error; the next call goes on behind it.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        loop {
            let memory = self.memory.memory();
            let next = self
                .queue
                .iter(memory.clone())
                .map_err(QueueError::Available)?
                .next();
            if let Some(raw) = next {
                let head = raw.head_index();
                return match Chain::check(memory, raw) {
                    Ok(chain) => Ok(Some(chain)),
                    Err(error) => {
                        self.complete(head, 0)?;
                        Err(error)
                    }
                };
            }
            if !self
                .queue
                .enable_notification(&*memory)
                .map_err(QueueError::Available)?
            {
                return Ok(None);
            }
        }
    }

    /// Puts the request that `pop` gave last back, to be given again.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a request back to the driver: `written` bytes of its writable buffers are filled.
    pub fn complete(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.queue
            .add_used(&*self.memory.memory(), head, written)
            .map_err(QueueError::Used)
    }

    /// Interrupts the driver if it wants to hear of the requests completed since the last call.
    pub fn notify(&mut self) -> Result<(), QueueError> {
        let wanted = self
            .queue
            .needs_notification(&*self.memory.memory())
            .map_err(QueueError::Used)?;
        if wanted {
            self.interrupt.trigger().map_err(QueueError::Interrupt)
        } else {
            Ok(())
        }
    }
}
