//! The used ring: how a device gives requests back (virtio 1.2, 2.7.8), and when the driver wants to hear of it (2.7.7, 2.7.10).
//!
//! Entries are staged first and published together, so that a driver never sees only a part of what belongs together.

use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

/// Bytes of the flags and the index in front of the entries, of both rings.
const RING_HEADER: u64 = 4;
/// Where the index stands.
const INDEX: u64 = 2;
/// Bytes of an entry of the used ring.
const USED_ENTRY: u64 = 8;
/// Bytes of an entry of the available ring, behind which the driver says when to interrupt it.
const AVAILABLE_ENTRY: u64 = 2;

/// The device's place in the used ring of one queue.
pub(super) struct UsedRing {
    address: GuestAddress,
    size: u16,
    /// Where the driver says that it wants no interrupts.
    flags: GuestAddress,
    /// Where it says, with the event index, which entry it wants one for.
    event: GuestAddress,
    event_index: bool,
    /// Where the next entry goes.
    next: Wrapping<u16>,
    /// Entries before this one the driver was told of, or did not want to be.
    told: Wrapping<u16>,
}

impl UsedRing {
    /// The used ring of `queue`, from its beginning.
    pub(super) fn new(queue: &Queue) -> Self {
        let available = GuestAddress(queue.avail_ring());
        let entries = u64::from(queue.size()).saturating_mul(AVAILABLE_ENTRY);
        Self {
            address: GuestAddress(queue.used_ring()),
            size: queue.size(),
            flags: available,
            // The transport has checked that the rings lie in memory: no address of theirs wraps.
            event: GuestAddress(
                available
                    .0
                    .saturating_add(RING_HEADER)
                    .saturating_add(entries),
            ),
            event_index: false,
            next: Wrapping(0),
            told: Wrapping(0),
        }
    }

    /// Whether the driver says by the event index when it wants interrupts.
    pub(super) fn set_event_index(&mut self, event_index: bool) {
        self.event_index = event_index;
    }

    /// Writes the next entry, which the driver does not see yet.
    pub(super) fn stage(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), Error> {
        if head >= self.size {
            return Err(Error::InvalidDescriptorIndex);
        }
        let slot = u64::from(self.next.0.checked_rem(self.size).unwrap_or(0));
        let offset = slot.saturating_mul(USED_ENTRY).saturating_add(RING_HEADER);
        let address = self
            .address
            .checked_add(offset)
            .ok_or(Error::AddressOverflow)?;
        // `struct virtq_used_elem`: the head, then the length.
        let entry = u64::from(written) << 32 | u64::from(head);
        memory
            .write_obj(entry.to_le(), address)
            .map_err(Error::GuestMemory)?;
        self.next += Wrapping(1);
        Ok(())
    }

    /// Lets the driver see all entries so far.
    pub(super) fn publish(&self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        let address = self
            .address
            .checked_add(INDEX)
            .ok_or(Error::AddressOverflow)?;
        memory
            .store(self.next.0.to_le(), address, Ordering::Release)
            .map_err(Error::GuestMemory)
    }

    /// Whether the driver wants an interrupt for what was published since the last call.
    pub(super) fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> Result<bool, Error> {
        // What is published must be visible before the driver's wish is read.
        fence(Ordering::SeqCst);
        let address = if self.event_index {
            self.event
        } else {
            self.flags
        };
        let word: u16 = memory
            .load(address, Ordering::Relaxed)
            .map_err(Error::GuestMemory)?;
        let word = u16::from_le(word);
        let told = std::mem::replace(&mut self.told, self.next);
        Ok(match self.event_index {
            // The entry it waits for is one of the new ones.
            true => self.next - Wrapping(word) - Wrapping(1) < self.next - told,
            false => u32::from(word) & VRING_AVAIL_F_NO_INTERRUPT == 0,
        })
    }
}
