//! A connection with its socket: bytes held for a slow reader, and what the socket is watched for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::net::Shutdown;
use vm_memory::VolatileSlice;

use super::connection::{Connection, Ends};
use super::limits::{MAX_BATCH, MAX_PAYLOAD};
use super::packet::Operation;
use super::pieces::cut;
use super::rx::{Outcome, Rx};
use super::socket;
use super::table::Opener;
use crate::event_loop::Interest;
use crate::virtio::queue::QueueError;

/// Bytes copied at a time into the buffer of a slow reader.
const CHUNK: usize = 4096;

/// A connection and its socket.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) opener: Opener,
    /// Tick after which a request is given up.
    pub(super) deadline: u64,
    /// Whether it stands in the queue of those with something for the guest.
    pub(super) queued: bool,
    /// What the poller watches the socket for now; `None`: it does not.
    pub(super) watched: Option<Interest>,
    /// Closed once the connection is ending.
    socket: Option<OwnedFd>,
    /// What the socket would not take yet: `credit.held()` bytes.
    held: VecDeque<u8>,
    /// The socket may have bytes for the guest.
    readable: bool,
    /// Which halves of the socket were shut down already.
    shut: Ends,
    /// Receive buffers taken for the next read: doubles while a stream flows, so that a single message costs one.
    burst: usize,
}

/// How a turn of sending to the guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more for now.
    Done,
    /// There may be more.
    More,
    /// The guest has no receive buffer.
    Blocked,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        opener: Opener,
        deadline: u64,
        socket: OwnedFd,
    ) -> Self {
        Self {
            connection,
            opener,
            deadline,
            queued: false,
            watched: None,
            socket: Some(socket),
            held: VecDeque::new(),
            readable: false,
            shut: Ends::default(),
            burst: 1,
        }
    }

    /// The socket, unless the connection is ending.
    pub(super) fn raw_fd(&self) -> Option<RawFd> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Writes the line that tells the client it is connected. The socket is fresh, so it takes all of it or is broken.
    pub(super) fn greet(&mut self) -> bool {
        let mut line = format!("OK {}\n", self.connection.key.host_port).into_bytes();
        let len = line.len();
        let line = VolatileSlice::from(line.as_mut_slice());
        let socket = self.socket.as_ref();
        socket.is_some_and(|socket| {
            socket::send(socket.as_fd(), &[line]).is_ok_and(|count| count == len)
        })
    }

    /// Passes the guest's bytes on: straight to the socket while nothing is held, else behind what is held.
    pub(super) fn deliver(&mut self, payload: &[VolatileSlice<'_>]) {
        let len = payload
            .iter()
            .map(VolatileSlice::len)
            .fold(0, usize::saturating_add);
        let mut sent = 0;
        if !self.connection.has_reader() {
            sent = len;
        } else if let Some(socket) = self.socket.as_ref().filter(|_| self.held.is_empty()) {
            match socket::send(socket.as_fd(), payload) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.reader_gone();
                    sent = len;
                }
            }
        }
        if sent < len {
            self.hold(payload, sent);
        }
        self.connection.credit.forward(clamp(sent));
    }

    fn hold(&mut self, payload: &[VolatileSlice<'_>], sent: usize) {
        if self.held.capacity() == 0 {
            // Never grows: the guest has no credit for more.
            self.held
                .reserve_exact(self.connection.credit.window() as usize);
        }
        let mut chunk = [0; CHUNK];
        for piece in cut(payload, sent, usize::MAX) {
            let mut rest = piece;
            while !rest.is_empty() {
                let count = rest.copy_to(&mut chunk);
                self.held.extend(chunk.iter().take(count));
                let Ok(later) = rest.offset(count) else { break };
                rest = later;
            }
        }
    }

    /// The socket has room: sends what is held.
    pub(super) fn drain(&mut self) {
        while !self.held.is_empty() {
            let Some(socket) = &self.socket else { return };
            let (first, second) = self.held.as_mut_slices();
            let pieces = [first, second].map(VolatileSlice::from);
            match socket::send(socket.as_fd(), &pieces) {
                Ok(count) => {
                    self.held.drain(..count.min(self.held.len()));
                    self.connection.credit.forward(clamp(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.reader_gone(),
            }
        }
        self.held = VecDeque::new();
    }

    /// Nobody reads the socket any more. What the guest still sends is dropped, and it is told so.
    fn reader_gone(&mut self) {
        self.connection.credit.forward(clamp(self.held.len()));
        self.held = VecDeque::new();
        self.connection.host_ends(Ends {
            send: false,
            receive: true,
        });
    }

    /// The socket's other end is closed for both directions.
    pub(super) fn hung_up(&mut self) {
        self.reader_gone();
        self.connection.host_ends(Ends {
            send: true,
            receive: true,
        });
    }

    /// The socket has bytes for the guest, or has ended.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Whether the guest is to get something.
    pub(super) fn has_work(&self) -> bool {
        self.connection.due().is_some() || self.can_read() && self.connection.credit.free() > 0
    }

    fn can_read(&self) -> bool {
        self.readable && self.connection.reads()
    }

    /// Brings the socket to what both sides said. Returns whether the connection is ending: the socket is then to be closed.
    pub(super) fn settle(&mut self) -> bool {
        if self.connection.settle() {
            return true;
        }
        let Some(socket) = &self.socket else {
            return true;
        };
        if self.connection.sent_all() && !self.shut.send {
            self.shut.send = true;
            ignore_closed(socket::shutdown(socket.as_fd(), Shutdown::Write));
        }
        if self.connection.deaf() && !self.shut.receive {
            self.shut.receive = true;
            ignore_closed(socket::shutdown(socket.as_fd(), Shutdown::Read));
        }
        false
    }

    /// Closes the socket. The poller no longer watches it.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.held = VecDeque::new();
        self.readable = false;
    }

    /// What the socket is to be watched for. A hang-up is always reported, so a socket that must wait for the guest is not
    /// watched at all.
    pub(super) fn wanted_watch(&self, guest_has_buffers: bool) -> Option<Interest> {
        self.socket.as_ref()?;
        if self.connection.is_requested() {
            return Some(Interest::NONE);
        }
        let reads = self.connection.reads();
        let room = self.connection.credit.free() > 0 && (guest_has_buffers || !self.readable);
        match (reads && room, !self.held.is_empty()) {
            (true, true) => Some(Interest::BOTH),
            (true, false) => Some(Interest::READ),
            (false, true) => Some(Interest::WRITE),
            (false, false) if reads => None,
            (false, false) => Some(Interest::NONE),
        }
    }

    /// Sends the guest what is due, then one read's worth of the socket's bytes.
    pub(super) fn turn(&mut self, guest_cid: u64, rx: &mut Rx) -> Result<Turn, QueueError> {
        loop {
            while let Some(operation) = self.connection.due() {
                if !rx.send(&self.connection.header(guest_cid, operation, 0))? {
                    return Ok(Turn::Blocked);
                }
                self.connection.sent(operation);
            }
            if !self.can_read() {
                return Ok(Turn::Done);
            }
            if self.connection.credit.free() > 0 {
                return self.read(guest_cid, rx);
            }
            self.connection.starve();
            if self.connection.due().is_none() {
                return Ok(Turn::Done);
            }
        }
    }

    fn read(&mut self, guest_cid: u64, rx: &mut Rx) -> Result<Turn, QueueError> {
        let Some(socket) = &self.socket else {
            return Ok(Turn::Done);
        };
        let connection = &mut self.connection;
        let limit = connection.credit.free().min(MAX_PAYLOAD);
        let outcome = rx.send_data(
            (limit, self.burst),
            |pieces| socket::receive(socket.as_fd(), pieces),
            |len| {
                connection.credit.spend(len);
                connection.sent(Operation::Data);
                connection.header(guest_cid, Operation::Data, len)
            },
        )?;
        match outcome {
            Outcome::NoBuffer => return Ok(Turn::Blocked),
            Outcome::Sent { all: true, .. } => {
                self.burst = self.burst.saturating_mul(2).min(MAX_BATCH);
                return Ok(Turn::More);
            }
            Outcome::Sent { all: false, .. } => {}
            Outcome::Source(Ok(())) => {
                connection.host_ends(Ends {
                    send: true,
                    receive: false,
                });
            }
            Outcome::Source(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Outcome::Source(Err(_)) => self.hung_up(),
        }
        self.burst = 1;
        self.readable = false;
        Ok(Turn::Done)
    }
}

/// A socket whose other end is gone cannot be shut down, and need not be.
fn ignore_closed(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("vsock: socket was closed already: {error}");
    }
}

fn clamp(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
