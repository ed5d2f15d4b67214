//! From the guest to the host: each chain of a transmit queue is a header and a frame (virtio 1.2, 5.1.6.2).

use std::os::fd::BorrowedFd;

use super::counters::{Counters, add};
use super::header::{self, HEADER_BYTES, Header};
use super::vectored::Pieces;
use crate::virtio::queue::{Chain, QueueError, RequestQueue};

/// The transmitting half of a pair.
#[derive(Default)]
pub(super) struct Sender {
    queue: Option<RequestQueue>,
    features: u64,
    /// Of the packet under way; kept to save its allocation.
    pieces: Pieces,
}

impl Sender {
    /// The driver is there.
    pub(super) fn activate(&mut self, queue: Option<RequestQueue>, features: u64) {
        self.queue = queue;
        self.features = features;
    }

    /// The driver has gone.
    pub(super) fn reset(&mut self) {
        self.queue = None;
    }

    /// Sends what the driver has made available. What the host does not take is lost, as on any wire.
    pub(super) fn send(
        &mut self,
        port: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> Result<(), QueueError> {
        let Some(queue) = &mut self.queue else {
            return Ok(());
        };
        while let Some(chain) = queue.pop()? {
            let sent = match packet(&chain, self.features, &mut self.pieces)? {
                Some(header) => match self.pieces.write(port, &header) {
                    Ok(bytes) => Sent::Whole(bytes.saturating_sub(HEADER_BYTES) as u64),
                    Err(_) => Sent::Refused,
                },
                None => Sent::Malformed,
            };
            self.pieces.clear();
            count(&sent, counters);
            queue.complete(chain.head(), 0)?;
        }
        queue.notify()
    }
}

/// What became of a packet.
enum Sent {
    /// The host has it: so many bytes of frame.
    Whole(u64),
    /// The driver must not send such.
    Malformed,
    /// The tap is down, full or gone, or the host's kernel knows better than we what is malformed.
    Refused,
}

/// Copies the header out and names the frame's pieces. `None`: nothing that can be sent.
fn packet(chain: &Chain, features: u64, pieces: &mut Pieces) -> Result<Option<Header>, QueueError> {
    let mut header = [0; HEADER_BYTES];
    let bytes = usize::try_from(chain.readable_len()).unwrap_or(usize::MAX);
    let frame = bytes.saturating_sub(HEADER_BYTES);
    chain.read_at(0, &mut header)?;
    if !header::is_sound(&header, frame, features) {
        return Ok(None);
    }
    let buffers = Chain::part(chain.readable(), HEADER_BYTES as u64, frame as u64);
    pieces.push(chain, &buffers)?;
    Ok(Some(header))
}

fn count(sent: &Sent, counters: &mut Counters) {
    match sent {
        Sent::Whole(bytes) => {
            add(&mut counters.sent, 1);
            add(&mut counters.sent_bytes, *bytes);
        }
        Sent::Malformed => add(&mut counters.send_malformed, 1),
        Sent::Refused => add(&mut counters.send_refused, 1),
    }
}
