//! Network interface (virtio 1.2, 5.1), connected to a port of the host: a tap.
//!
//! ```text
//!   transmit queue ── send (check the header) ──► writev ──► port
//!   receive queue ◄── receive (hold buffers) ◄── readv ◄── port
//!   control queue ── control (parse) ──► pairs in use, offloads
//! ```
//!
//! Frames are never copied: the kernel moves them between the tap and guest memory. All pairs are served by one worker.

mod control;
mod counters;
mod features;
mod header;
mod held;
mod limits;
mod port;
mod receive;
mod send;
mod tap;
#[cfg(test)]
mod tests;
mod vectored;

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use virtio_bindings::virtio_net::{VIRTIO_NET_F_MQ, VIRTIO_NET_S_LINK_UP};

use self::control::Command;
use self::counters::{Counters, add};
use self::features::{left_to_guest, offered};
pub use self::limits::MAX_QUEUE_PAIRS;
use self::limits::{CONTROL_SIZE, QUEUE_SIZE};
pub use self::port::Port;
use self::receive::Receiver;
use self::send::Sender;
pub use self::tap::{MAX_NAME, Tap, TapError, mtu};
use super::device::{Activation, DeviceType, NeedsReset, VirtioDevice};
use super::queue::{QueueError, RequestQueue};
use crate::event_loop::{Interest, Poller};

const NAME: &str = "net";

/// What the guest is told of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its address; without one the guest makes one up.
    pub mac: Option<[u8; 6]>,
    /// Its largest packet.
    pub mtu: u16,
}

/// A receive queue, a transmit queue and the port's queue behind them.
struct Pair {
    port: Box<dyn Port>,
    receiver: Receiver,
    sender: Sender,
    /// Whether the poller has the port.
    watched: bool,
}

/// The device.
pub struct Net {
    identity: Identity,
    pairs: Vec<Pair>,
    queue_sizes: Vec<u16>,
    /// What was agreed on.
    features: u64,
    control: Option<RequestQueue>,
    /// Its index among the queues.
    control_index: usize,
    /// Pairs in use, from the first on.
    active: usize,
    poller: Poller,
    counters: Counters,
}

impl Net {
    /// An interface with one pair of queues for each of `ports`.
    pub fn new(identity: Identity, ports: Vec<Box<dyn Port>>) -> io::Result<Self> {
        let mut queue_sizes = vec![QUEUE_SIZE; ports.len().saturating_mul(2)];
        queue_sizes.push(CONTROL_SIZE);
        let pair = |port| Pair {
            port,
            receiver: Receiver::new(),
            sender: Sender::default(),
            watched: false,
        };
        let mut net = Self {
            identity,
            pairs: ports.into_iter().map(pair).collect(),
            queue_sizes,
            features: 0,
            control: None,
            control_index: 0,
            active: 0,
            poller: Poller::new()?,
            counters: Counters::default(),
        };
        net.use_pairs(1)?;
        Ok(net)
    }

    /// Takes the first `count` pairs into use, and the others out of it.
    fn use_pairs(&mut self, count: usize) -> io::Result<()> {
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            pair.port.set_attached(index < count)?;
        }
        self.active = count;
        Ok(())
    }

    fn serve(&mut self, index: usize) -> Result<(), QueueError> {
        if index == self.control_index {
            return self.serve_control();
        }
        let Some(pair) = self.pairs.get_mut(index / 2) else {
            return Ok(());
        };
        if index.is_multiple_of(2) {
            pair.receiver.feed();
            Ok(())
        } else {
            pair.sender.send(pair.port.as_fd(), &mut self.counters)
        }
    }

    fn serve_control(&mut self) -> Result<(), QueueError> {
        let Some(mut queue) = self.control.take() else {
            return Ok(());
        };
        let outcome = self.obey_all(&mut queue);
        self.control = Some(queue);
        outcome
    }

    fn obey_all(&mut self, queue: &mut RequestQueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            let command = Command::parse(&chain, self.features)?;
            let accepted = command.is_some_and(|command| self.obey(command));
            add(&mut self.counters.commands, 1);
            add(&mut self.counters.commands_refused, u64::from(!accepted));
            let written = control::answer(&chain, accepted)?;
            queue.complete(chain.head(), written)?;
        }
        queue.notify()
    }

    /// Whether `command` was carried out.
    fn obey(&mut self, command: Command) -> bool {
        let outcome = match command {
            Command::Pairs(count) => {
                let count = usize::from(count);
                if count == 0 || count > self.pairs.len() {
                    return false;
                }
                self.use_pairs(count)
            }
            Command::Offloads(offloads) => self.set_offloads(offloads),
        };
        outcome.is_ok()
    }

    /// The port is one interface, whichever of its queues is asked.
    fn set_offloads(&self, offloads: u64) -> io::Result<()> {
        match self.pairs.first() {
            Some(pair) => pair.port.set_offloads(offloads),
            None => Ok(()),
        }
    }

    /// Watches the ports that have something to say to a guest that can hear it.
    fn rewatch(&mut self) -> io::Result<()> {
        for ((index, pair), token) in self.pairs.iter_mut().enumerate().zip(0..) {
            let wanted = index < self.active && pair.receiver.wants_packets();
            let port = pair.port.as_fd().as_raw_fd();
            match (pair.watched, wanted) {
                (false, true) => self.poller.add(port, token, Interest::READ)?,
                (true, false) => self.poller.remove(port)?,
                _ => {}
            }
            pair.watched = wanted;
        }
        Ok(())
    }

    fn settle(&mut self, outcome: Result<(), QueueError>) -> Result<(), NeedsReset> {
        outcome.map_err(|error| NeedsReset::ring(NAME, &error))?;
        self.rewatch().map_err(|error| NeedsReset {
            device: NAME,
            reason: format!("its ports cannot be watched: {error}"),
        })
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        let offloads = self.pairs.first().map_or(0, |pair| pair.port.offloads());
        offered(offloads, self.identity.mac.is_some(), self.pairs.len() > 1)
    }

    /// `struct virtio_net_config` up to the MTU (virtio 1.2, 5.1.4).
    fn config(&self) -> Vec<u8> {
        let [up, ..] = VIRTIO_NET_S_LINK_UP.to_le_bytes();
        let pairs = u16::try_from(self.pairs.len()).unwrap_or(MAX_QUEUE_PAIRS);
        let mut config = self.identity.mac.unwrap_or_default().to_vec();
        config.extend([up, 0]);
        config.extend(pairs.to_le_bytes());
        config.extend(self.identity.mtu.to_le_bytes());
        config
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        let Activation {
            mut queues,
            features,
            ..
        } = activation;
        self.features = features;
        // A driver that knows one pair has the control queue behind that (virtio 1.2, 5.1.2).
        let pairs = match features & features::bit(VIRTIO_NET_F_MQ) {
            0 => 1,
            _ => self.pairs.len(),
        };
        self.control_index = pairs.saturating_mul(2);
        self.control = queues.get_mut(self.control_index).and_then(Option::take);
        queues.truncate(self.control_index);
        let mut queues = queues.into_iter();
        for pair in self.pairs.iter_mut().take(pairs) {
            let receive = queues.next().flatten();
            pair.receiver.activate(receive, features, self.identity.mtu);
            pair.sender.activate(queues.next().flatten(), features);
        }
        let set_up = self
            .set_offloads(left_to_guest(features))
            .and_then(|()| self.use_pairs(1))
            .and_then(|()| self.rewatch());
        // An interface that has gone is what a pulled cable is: the driver sees nobody, not a broken device.
        if let Err(error) = set_up {
            log::warn!("a network interface cannot be used: {error}");
        }
        Ok(())
    }

    fn process_queue(&mut self, index: usize) -> Result<(), NeedsReset> {
        let outcome = self.serve(index);
        self.settle(outcome)
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.poller.as_raw_fd())
    }

    /// All ports in use are read: one that has nothing costs a system call, as asking the poller which have something would.
    fn process_events(&mut self) -> Result<(), NeedsReset> {
        let watched = self.pairs.iter_mut().filter(|pair| pair.watched);
        let mut outcome = Ok(());
        for pair in watched {
            let received = pair.receiver.receive(pair.port.as_fd(), &mut self.counters);
            outcome = outcome.and(received);
        }
        self.settle(outcome)
    }

    fn reset(&mut self) {
        self.control = None;
        for pair in &mut self.pairs {
            pair.receiver.reset();
            pair.sender.reset();
        }
        let unwatched = self.rewatch().and_then(|()| self.use_pairs(1));
        if let Err(error) = unwatched {
            log::warn!("a network interface cannot be put back: {error}");
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counters.list()
    }
}
