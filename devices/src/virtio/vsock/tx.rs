//! Packets from the guest: out of its transmit queue (queue 1).

use vm_memory::VolatileSlice;

use super::packet::{HEADER_LEN, HEADER_SIZE, Header};
use super::pieces::cut;
use crate::virtio::queue::{Chain, QueueError, RequestQueue};

/// The transmit queue.
pub(super) struct Tx {
    queue: RequestQueue,
    /// Something was completed since the last interrupt.
    dirty: bool,
}

/// A packet where the guest has put it. The header is a copy, so it stays as it was judged.
pub(super) struct Packet {
    chain: Chain,
    header: Header,
}

impl Packet {
    /// The header.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Payload in guest memory; `None` if there is less than the header says.
    pub(super) fn payload(&self) -> Result<Option<Vec<VolatileSlice<'_>>>, QueueError> {
        let there = self.chain.readable_len().saturating_sub(HEADER_SIZE.into());
        if there < u64::from(self.header.len) {
            return Ok(None);
        }
        let all = self.chain.slices(self.chain.readable())?;
        Ok(Some(cut(&all, HEADER_LEN, self.header.len as usize)))
    }
}

impl Tx {
    pub(super) fn new(queue: RequestQueue) -> Self {
        Self {
            queue,
            dirty: false,
        }
    }

    /// The next packet. What is too short to be one is given back and passed over.
    pub(super) fn take(&mut self) -> Result<Option<Packet>, QueueError> {
        while let Some(chain) = self.queue.pop()? {
            let mut bytes = [0; HEADER_LEN];
            if chain.read_at(0, &mut bytes)? == HEADER_LEN {
                let header = Header::parse(&bytes);
                return Ok(Some(Packet { chain, header }));
            }
            self.give_back(&chain)?;
        }
        Ok(None)
    }

    /// Gives a packet's buffers back to the guest.
    pub(super) fn done(&mut self, packet: &Packet) -> Result<(), QueueError> {
        self.give_back(&packet.chain)
    }

    fn give_back(&mut self, chain: &Chain) -> Result<(), QueueError> {
        self.dirty = true;
        self.queue.complete(chain.head(), 0)
    }

    /// Interrupts the guest if anything was taken since the last call.
    pub(super) fn notify(&mut self) -> Result<(), QueueError> {
        if std::mem::take(&mut self.dirty) {
            self.queue.notify()?;
        }
        Ok(())
    }
}
