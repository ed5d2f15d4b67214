//! The only owner of ring indices (virtio 1.2, 2.7: split virtqueues, with indirect descriptors and event index).
//!
//! A [`RequestQueue`] is made by the transport when the driver enables it, with addresses that were checked and then frozen.
//! A [`Chain`] is a snapshot: each descriptor is read once, the whole chain is checked before a device sees any of it.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace};
use vmm_sys_util::eventfd::EventFd;

use super::chain::Table;
pub use super::chain::{Buffer, Chain};
use super::used::UsedRing;
use crate::irq::Interrupt;
use crate::log_limit::LogLimit;
use crate::memory::GuestMemory;

/// Requests taken between two returns to the event loop, so that a driver that never lets its ring run dry cannot keep a
/// worker from its other devices and commands.
const MAX_BURST: u32 = 256;

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
    /// The interrupt, or the queue's own kick, could not be signalled.
    #[error("queue event cannot be signalled")]
    Interrupt(#[source] io::Error),
}

impl QueueError {
    /// Whether only this chain is lost: the ring itself is sound, and the driver may go on.
    fn spares_queue(&self) -> bool {
        matches!(self, Self::OutsideMemory { .. } | Self::Order { .. })
    }
}

/// A queue in use: rings, doorbell and interrupt.
pub struct RequestQueue {
    queue: Queue,
    used: UsedRing,
    memory: GuestMemory,
    kick: Arc<EventFd>,
    interrupt: Arc<dyn Interrupt>,
    indirect: bool,
    burst: u32,
}

impl RequestQueue {
    /// Takes over a queue that the driver enabled; the transport has checked its addresses.
    pub fn new(
        queue: Queue,
        memory: GuestMemory,
        kick: Arc<EventFd>,
        interrupt: Arc<dyn Interrupt>,
    ) -> Self {
        Self {
            used: UsedRing::new(&queue),
            queue,
            memory,
            kick,
            interrupt,
            indirect: true,
            burst: 0,
        }
    }

    /// Holds the driver to the ring features it agreed on. Without this call it may use indirect descriptors, no event index.
    pub fn set_features(&mut self, features: u64) {
        self.indirect = features & 1 << VIRTIO_RING_F_INDIRECT_DESC != 0;
        let event_index = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        self.queue.set_event_idx(event_index);
        self.used.set_event_index(event_index);
    }

    /// Signalled when the driver has made requests available.
    #[must_use]
    pub fn kick(&self) -> &Arc<EventFd> {
        &self.kick
    }

    /// The next request. `Ok(None)` once the ring is empty: kicks are then enabled again, and none was missed. Also `Ok(None)`
    /// after [`MAX_BURST`] requests in a row: the queue has then kicked itself.
    ///
    /// A chain with a buffer outside memory, or in the wrong order, is given back to the driver unused and passed over. What
    /// is wrong beyond that is an error: the driver must reset the device.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        static LIMIT: LogLimit = LogLimit::new();
        loop {
            let memory = self.memory.memory();
            if self.burst >= MAX_BURST {
                self.burst = 0;
                self.kick.write(1).map_err(QueueError::Interrupt)?;
                return Ok(None);
            }
            let mut available = self
                .queue
                .iter(memory.clone())
                .map_err(QueueError::Available)?;
            let Some(raw) = available.next() else {
                let more = self.queue.enable_notification(&*memory);
                if more.map_err(QueueError::Available)? {
                    continue;
                }
                self.burst = 0;
                return Ok(None);
            };
            self.burst = self.burst.saturating_add(1);
            let head = raw.head_index();
            match Chain::read(memory, raw, self.table()) {
                Err(error) if error.spares_queue() => {
                    if LIMIT.allows() {
                        log::warn!("request dropped: {error}");
                    }
                    self.complete(head, 0)?;
                    self.notify()?;
                }
                outcome => return outcome.map(Some),
            }
        }
    }

    fn table(&self) -> Table {
        Table {
            address: GuestAddress(self.queue.desc_table()),
            size: self.queue.size(),
            indirect: self.indirect,
        }
    }

    /// Puts the request that `pop` gave last back, to be given again.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// How many requests it has room for.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Gives a request back to the driver: `written` bytes of its writable buffers are filled.
    pub fn complete(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.stage(head, written)?;
        self.publish()
    }

    /// Like [`Self::complete`], but the driver sees it only after [`Self::publish`].
    pub fn stage(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.used
            .stage(&self.memory.memory(), head, written)
            .map_err(QueueError::Used)
    }

    /// Lets the driver see what was staged.
    pub fn publish(&mut self) -> Result<(), QueueError> {
        self.used
            .publish(&self.memory.memory())
            .map_err(QueueError::Used)
    }

    /// Interrupts the driver if it wants to hear of the requests completed since the last call.
    pub fn notify(&mut self) -> Result<(), QueueError> {
        let wanted = self.used.wants_interrupt(&self.memory.memory());
        match wanted.map_err(QueueError::Used)? {
            true => self.interrupt.trigger().map_err(QueueError::Interrupt),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
