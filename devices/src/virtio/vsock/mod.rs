//! virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and unix sockets of the host, served in this process.
//!
//! ```text
//!  client on the host --CONNECT <port>\n--> listener   lobby.rs, handshake.rs
//!         |  OK <host port>\n                  |
//!         +--------- bytes ----------- connection.rs (state), credit.rs; link.rs (with its socket); table.rs (all of them)
//!  <base>_<port> <--connect-- guest's request  |
//!                                           muxer.rs
//!                                    rx.rs <---+---> tx.rs   the guest's queues, packet.rs
//! ```
//!
//! Bytes go from a socket straight into the guest's buffers and from the guest's buffers straight into a socket. Only what a
//! slow reader on the host does not take is held, at most the window advertised to the guest ([`limits`]).
//!
//! The guest is hostile: its packets change only its own connections, and what it can make this side hold is bounded.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used
    )
)]

mod connection;
mod counters;
mod credit;
mod failure;
mod handshake;
pub mod limits;
mod link;
mod lobby;
mod muxer;
mod packet;
mod pieces;
#[cfg(test)]
mod random;
mod rx;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod ticker;
mod token;
mod tx;

use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use self::failure::Failure;
use self::muxer::Muxer;
use self::rx::Rx;
use self::tx::Tx;
use crate::virtio::device::{Activation, DeviceType, NeedsReset, VirtioDevice};

/// Receive, transmit and event queue.
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];

/// `VIRTIO_VSOCK_F_STREAM`.
const FEATURE_STREAM: u64 = 1;

/// Lowest context id of a guest: those below are reserved (virtio 1.2, 5.10.4).
const FIRST_GUEST_CID: u32 = 3;

/// Longest path of a unix socket, its final zero aside.
const MAX_SOCKET_PATH: usize = 107;

/// Longest suffix of a service's path: `_4294967295`.
const MAX_SUFFIX: usize = 11;

/// The device.
pub struct Vsock {
    guest_cid: u32,
    muxer: Muxer,
    /// The driver's queues, while it is there.
    queues: Option<(Rx, Tx)>,
}

impl Vsock {
    /// A device whose guest has `guest_cid`. Clients on the host come to `listener`, which is bound and does not block;
    /// when the guest connects to port N of the host, it is connected to `<connect_base>_<N>`, looked up at that moment.
    pub fn new(guest_cid: u32, listener: UnixListener, connect_base: PathBuf) -> io::Result<Self> {
        let length = connect_base.as_os_str().as_bytes().len();
        if length.saturating_add(MAX_SUFFIX) > MAX_SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("socket path of {length} bytes leaves no room for a port"),
            ));
        }
        if !(FIRST_GUEST_CID..u32::MAX).contains(&guest_cid) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("context id {guest_cid} is reserved"),
            ));
        }
        Ok(Self {
            guest_cid,
            muxer: Muxer::new(guest_cid, listener, connect_base)?,
            queues: None,
        })
    }

    /// Takes the guest's packets, and gives it what is there for it.
    fn work(&mut self) -> Result<(), Failure> {
        let Some((rx, tx)) = &mut self.queues else {
            return Ok(());
        };
        loop {
            while self.muxer.takes_packets() {
                let Some(packet) = tx.take()? else { break };
                let payload = packet.payload()?;
                self.muxer.packet(packet.header(), payload.as_deref())?;
                drop(payload);
                tx.done(&packet)?;
            }
            let stopped = !self.muxer.takes_packets();
            self.muxer.serve(rx)?;
            // Packets that had to wait for room for their answers kick no more.
            if !(stopped && self.muxer.takes_packets()) {
                break;
            }
        }
        tx.notify()?;
        rx.notify()?;
        Ok(self.muxer.keep_time()?)
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURE_STREAM
    }

    fn config(&self) -> Vec<u8> {
        u64::from(self.guest_cid).to_le_bytes().to_vec()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        // The event queue tells only of migration, which this device does not do: its buffers stay where they are.
        let mut queues = activation.queues.into_iter();
        let (Some(Some(rx)), Some(Some(tx))) = (queues.next(), queues.next()) else {
            return Err(NeedsReset {
                device: "vsock",
                reason: "driver has enabled no receive or no transmit queue".to_owned(),
            });
        };
        self.queues = Some((Rx::new(rx), Tx::new(tx)));
        self.muxer.start().map_err(Failure::from)?;
        Ok(self.work()?)
    }

    fn process_queue(&mut self, _index: usize) -> Result<(), NeedsReset> {
        Ok(self.work()?)
    }

    fn event_fd(&self) -> Option<RawFd> {
        self.queues.is_some().then(|| self.muxer.event_fd())
    }

    fn process_events(&mut self) -> Result<(), NeedsReset> {
        self.muxer.poll().map_err(Failure::from)?;
        Ok(self.work()?)
    }

    fn reset(&mut self) {
        self.queues = None;
        if let Err(error) = self.muxer.stop() {
            log::warn!("vsock: reset: {error}");
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.muxer.counters.list();
        counters.push(("connections", self.muxer.connections() as u64));
        counters
    }
}
