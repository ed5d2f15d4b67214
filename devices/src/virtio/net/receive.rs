//! From the host to the guest (virtio 1.2, 5.1.6.3, 5.1.6.4).
//!
//! A packet is read straight into the buffers of the guest, which are therefore taken before its length is known: as many as the
//! longest packet needs, if the driver has given so many. What does not fit goes to a place of our own and follows when the
//! driver has given more buffers. Buffers that a packet does not need are held for the next.
//!
//! Without buffers the port is not looked at until the driver's kick, so that a guest that gives none costs nothing.

use std::io;
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;

use super::counters::{Counters, add};
use super::features::{bit, gets_big_frames};
use super::header::{HEADER_BYTES, NUM_BUFFERS};
use super::held::Held;
use super::limits::{FRAME_BESIDE_MTU, MAX_PACKET, MAX_PIECES, RECEIVE_BURST};
use crate::virtio::queue::{QueueError, RequestQueue};

/// What the port has for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Packets, if the guest has buffers.
    Up,
    /// Nothing until the guest has given buffers.
    Starved,
    /// Nothing any more: the interface was deleted.
    Gone,
}

/// The receiving half of a pair.
pub(super) struct Receiver {
    queue: Option<RequestQueue>,
    /// Whether a packet may be spread over several chains.
    mergeable: bool,
    /// Bytes of the longest packet.
    longest: usize,
    held: Held,
    /// What of a packet had no room.
    rest: Box<[u8]>,
    /// The packet that waits for buffers.
    pending: Option<Pending>,
    link: Link,
}

/// A packet that was read.
#[derive(Debug, Clone, Copy)]
struct Pending {
    len: usize,
    /// How much of it is in the chains that were held then; what follows is in `rest`.
    placed: usize,
}

/// How taking chains ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// There is room for what was wanted.
    Enough,
    /// The driver has given no more.
    Dry,
    /// More cannot be held for one packet.
    Full,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            queue: None,
            mergeable: false,
            longest: 0,
            held: Held::default(),
            rest: Box::default(),
            pending: None,
            link: Link::Up,
        }
    }

    /// The driver is there. It is told of packets of `mtu` bytes.
    pub(super) fn activate(&mut self, queue: Option<RequestQueue>, features: u64, mtu: u16) {
        self.queue = queue;
        self.mergeable = features & bit(VIRTIO_NET_F_MRG_RXBUF) != 0;
        let frame = usize::from(mtu).saturating_add(FRAME_BESIDE_MTU);
        self.longest = match gets_big_frames(features) {
            true => MAX_PACKET,
            false => HEADER_BYTES.saturating_add(frame),
        };
        self.rest = vec![0; MAX_PACKET].into_boxed_slice();
        self.link = Link::Up;
    }

    /// The driver has gone, and its buffers with it.
    pub(super) fn reset(&mut self) {
        self.queue = None;
        self.held.clear();
        self.pending = None;
    }

    /// Whether the port is to be watched.
    pub(super) fn wants_packets(&self) -> bool {
        self.queue.is_some() && self.link == Link::Up
    }

    /// The driver has given buffers.
    pub(super) fn feed(&mut self) {
        if self.link == Link::Starved {
            self.link = Link::Up;
        }
    }

    /// Gives the guest what the port has, up to a burst of packets.
    pub(super) fn receive(
        &mut self,
        port: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> Result<(), QueueError> {
        let Some(mut queue) = self.queue.take() else {
            return Ok(());
        };
        let outcome = self.receive_burst(&mut queue, port, counters);
        let notified = queue.notify();
        self.queue = Some(queue);
        outcome.and(notified)
    }

    fn receive_burst(
        &mut self,
        queue: &mut RequestQueue,
        port: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> Result<(), QueueError> {
        for _ in 0..RECEIVE_BURST {
            if self.link != Link::Up {
                break;
            }
            if self.pending.is_none() {
                self.hold(queue, self.longest, counters)?;
                if self.held.chains.is_empty() {
                    self.starve(counters);
                    break;
                }
                match self.held.pieces.read(port, &mut self.rest) {
                    Ok(len) if len >= HEADER_BYTES => {
                        let placed = self.held.bytes;
                        self.pending = Some(Pending { len, placed });
                    }

                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Not even a header: there is nobody at the other end.
                    Ok(_) => self.lose(&io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => self.lose(&error),
                }
            }
            if let Some(pending) = self.pending {
                self.deliver(queue, pending, counters)?;
            }
        }
        Ok(())
    }

    /// Takes chains of the driver until they have room for `wanted` bytes.
    fn hold(
        &mut self,
        queue: &mut RequestQueue,
        wanted: usize,
        counters: &mut Counters,
    ) -> Result<Fill, QueueError> {
        let most = match self.mergeable {
            true => queue.size().into(),
            false => 1,
        };
        while self.held.bytes < wanted {
            if self.held.chains.len() >= most {
                return Ok(Fill::Full);
            }
            let Some(chain) = queue.pop()? else {
                return Ok(Fill::Dry);
            };
            let pieces = chain.writable().len();
            let unusable = !chain.readable().is_empty()
                || chain.writable_len() < HEADER_BYTES as u64
                || pieces > MAX_PIECES;
            if unusable {
                add(&mut counters.receive_malformed, 1);
                queue.complete(chain.head(), 0)?;
            } else if self.held.pieces.len().saturating_add(pieces) > MAX_PIECES {
                queue.undo_pop();
                return Ok(Fill::Full);
            } else {
                self.held.push(chain)?;
            }
        }
        Ok(Fill::Enough)
    }

    /// Hands `pending` over, unless its end must wait for more buffers.
    fn deliver(
        &mut self,
        queue: &mut RequestQueue,
        pending: Pending,
        counters: &mut Counters,
    ) -> Result<(), QueueError> {
        let fill = match pending.len > self.held.bytes {
            true => self.hold(queue, pending.len, counters)?,
            false => Fill::Enough,
        };
        match fill {
            Fill::Dry => self.starve(counters),
            Fill::Full => {
                self.pending = None;
                add(&mut counters.receive_dropped, 1);
            }
            Fill::Enough => {
                self.pending = None;
                self.complete(queue, pending)?;
                let frame = pending.len.saturating_sub(HEADER_BYTES);
                add(&mut counters.received, 1);
                add(&mut counters.received_bytes, frame as u64);
            }
        }
        Ok(())
    }

    /// Gives the driver the chains that have the packet, all at once: it takes a packet whose later chains it does not yet see
    /// for broken.
    fn complete(&mut self, queue: &mut RequestQueue, pending: Pending) -> Result<(), QueueError> {
        if let Some(rest) = pending.len.checked_sub(pending.placed) {
            let rest = self.rest.get(..rest).unwrap_or_default();
            self.held.write_at(pending.placed, rest)?;
        }
        let chains = self.held.count_for(pending.len);
        self.held.write_at(NUM_BUFFERS, &chains.to_le_bytes())?;
        let mut left = pending.len;
        for _ in 0..chains {
            if let Some((chain, bytes)) = self.held.pop() {
                let used = left.min(bytes);
                left = left.saturating_sub(used);
                queue.stage(chain.head(), u32::try_from(used).unwrap_or(u32::MAX))?;
            }
        }
        queue.publish()
    }

    fn starve(&mut self, counters: &mut Counters) {
        self.link = Link::Starved;
        add(&mut counters.receive_starved, 1);
    }

    fn lose(&mut self, error: &io::Error) {
        log::warn!("a network interface is lost: {error}");
        self.link = Link::Gone;
    }
}
