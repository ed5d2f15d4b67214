//! All connections between the guest's two queues and the host's unix sockets.
//!
//! One poller watches everything on the host's side. A connection with something for the guest stands in `ready`; it gets a
//! turn for as long as the guest has receive buffers, in a circle. A socket whose bytes the guest has no room for, in
//! credit or in buffers, is not watched meanwhile: so nothing is read that cannot be passed on, and nothing spins.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use vm_memory::VolatileSlice;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connection::{Connection, Farewell, Key, Reaction};
use super::counters::Counters;
use super::failure::Failure;
use super::limits::{MAX_RESETS, MAX_TURNS, RESPONSE_TICKS};
use super::link::{Link, Turn};
use super::lobby::{Lobby, Wish};
use super::packet::{HOST_CID, Header, Operation, STREAM};
use super::rx::Rx;
use super::socket;
use super::table::{Opener, Table};
use super::ticker::Ticker;
use super::token::Token;
use crate::event_loop::{Interest, Poller, Readiness};

/// The host's side of the device.
pub(super) struct Muxer {
    guest_cid: u64,
    connect_base: PathBuf,
    poller: Poller,
    events: Vec<Readiness>,
    ticker: Ticker,
    /// Wakes the device when it has stopped in the middle of its work.
    again: EventFd,
    lobby: Lobby,
    table: Table,
    ready: VecDeque<usize>,
    /// Answers to packets that belong to no connection.
    resets: VecDeque<Header>,
    /// Whether the guest had a receive buffer when it was last asked.
    guest_has_buffers: bool,
    pub(super) counters: Counters,
}

impl Muxer {
    /// Serves `listener`, which is bound and does not block, and connects to `<connect_base>_<port>` for the guest.
    pub(super) fn new(
        guest_cid: u32,
        listener: UnixListener,
        connect_base: PathBuf,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let ticker = Ticker::new()?;
        let again = EventFd::new(EFD_NONBLOCK)?;
        poller.add(ticker.as_raw_fd(), Token::Ticker.into(), Interest::READ)?;
        poller.add(again.as_raw_fd(), Token::Again.into(), Interest::READ)?;
        Ok(Self {
            guest_cid: guest_cid.into(),
            connect_base,
            poller,
            events: Vec::new(),
            ticker,
            again,
            lobby: Lobby::new(listener),
            table: Table::default(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            guest_has_buffers: true,
            counters: Counters::default(),
        })
    }

    /// Readable when the host's side wants attention.
    pub(super) fn event_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    /// The guest's driver is there: clients are let in.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.lobby.listen(true, &self.poller)
    }

    /// The guest's driver is gone: closes everything but the listener.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.resets.clear();
        for slot in self.table.occupied() {
            if let Some(link) = self.table.get_mut(slot) {
                Self::watch_for(link, slot, &self.poller, None)?;
            }
            self.table.remove(slot);
        }
        self.lobby.clear(&self.poller)?;
        self.lobby.listen(false, &self.poller)?;
        self.ticker.run(false)
    }

    /// Whether another packet of the guest may be taken: there is room for its answer.
    pub(super) fn takes_packets(&self) -> bool {
        self.resets.len() < MAX_RESETS
    }

    /// Takes in a packet of the guest; no `payload` if the guest promised more than there is.
    pub(super) fn packet(
        &mut self,
        header: &Header,
        payload: Option<&[VolatileSlice<'_>]>,
    ) -> io::Result<()> {
        self.counters.packets_from_guest.add(1);
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            self.counters.forged.add(1);
            return Ok(());
        }
        let operation = Operation::from_code(header.op);
        if header.socket_type != STREAM {
            self.refuse(operation, header);
            return Ok(());
        }
        let key = Key {
            host_port: header.dst_port,
            guest_port: header.src_port,
        };
        match (self.table.find(key), operation) {
            (Some(slot), _) => self.packet_for(slot, operation, header, payload),
            (None, Some(Operation::Request)) => self.open_from_guest(key, header),
            (None, _) => {
                self.refuse(operation, header);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, operation: Option<Operation>, header: &Header) {
        if operation != Some(Operation::Reset) {
            self.counters.refused.add(1);
            self.resets.push_back(header.reset());
        }
    }

    fn packet_for(
        &mut self,
        slot: usize,
        operation: Option<Operation>,
        header: &Header,
        payload: Option<&[VolatileSlice<'_>]>,
    ) -> io::Result<()> {
        let Some(link) = self.table.get_mut(slot) else {
            return Ok(());
        };
        let reaction = match operation {
            Some(operation) => link.connection.packet(operation, header),
            None => link.connection.end(Farewell::Reset),
        };
        match (reaction, payload) {
            (Reaction::Deliver, Some(payload)) => {
                self.counters.bytes_from_guest.add(header.len.into());
                link.deliver(payload);
            }
            (Reaction::Deliver, None) => {
                link.connection.end(Farewell::Reset);
            }
            (Reaction::Accepted, _) => {
                if !link.greet() {
                    link.connection.end(Farewell::Reset);
                }
            }
            (Reaction::Settle | Reaction::Close, _) => {}
        }
        self.settle(slot)
    }

    fn open_from_guest(&mut self, key: Key, header: &Header) -> io::Result<()> {
        let window = self.table.admit(Opener::Guest);
        let path = service_path(&self.connect_base, key.host_port);
        let opened = window.and_then(|window| Some((window, socket::connect(&path).ok()?)));
        let Some((window, socket)) = opened else {
            self.refuse(Some(Operation::Request), header);
            return Ok(());
        };
        self.counters.opened.add(1);
        let connection = Connection::from_guest(key, window, header);
        let link = Link::new(connection, Opener::Guest, u64::MAX, socket);
        let slot = self.table.insert(link);
        self.settle(slot)
    }

    fn open_from_host(&mut self, wish: Wish) -> io::Result<()> {
        let Some(window) = self.table.admit(Opener::Host) else {
            self.counters.refused.add(1);
            return Ok(());
        };
        self.counters.opened.add(1);
        let key = Key {
            host_port: self.table.host_port(wish.port),
            guest_port: wish.port,
        };
        let connection = Connection::to_guest(key, window);
        let deadline = self.ticker.now().saturating_add(RESPONSE_TICKS);
        let link = Link::new(connection, Opener::Host, deadline, wish.socket);
        let slot = self.table.insert(link);
        self.settle(slot)
    }

    /// Handles what has happened on the host's side.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.poller.wait(0, &mut events)?;
        for event in &events {
            match Token::from_poller(event.token) {
                Some(Token::Listener) => self.lobby.accept(self.ticker.now(), &self.poller)?,
                Some(Token::Client(place)) => {
                    if let Some(wish) = self.lobby.read(place, &self.poller)? {
                        self.open_from_host(wish)?;
                    }
                    self.lobby.listen(true, &self.poller)?;
                }
                Some(Token::Connection(slot)) => self.socket_ready(slot, *event)?,
                Some(Token::Ticker) => self.tick()?,
                // A wake-up: the work is found where it was left.
                Some(Token::Again) => {
                    self.again.read()?;
                }
                None => {}
            }
        }
        self.events = events;
        Ok(())
    }

    fn socket_ready(&mut self, slot: usize, event: Readiness) -> io::Result<()> {
        let Some(link) = self.table.get_mut(slot) else {
            return Ok(());
        };
        match link.watched {
            // An event of the slot's last owner.
            None => return Ok(()),
            Some(Interest::NONE) if link.connection.is_requested() => {
                link.connection.end(Farewell::Reset);
            }
            Some(Interest::NONE) => link.hung_up(),
            Some(interest) => {
                if interest.writable && event.writable {
                    link.drain();
                }
                if interest.readable && event.readable {
                    link.set_readable();
                }
            }
        }
        self.settle(slot)
    }

    fn tick(&mut self) -> io::Result<()> {
        self.ticker.tick();
        let now = self.ticker.now();
        self.lobby.expire(now, &self.poller)?;
        self.lobby.listen(true, &self.poller)?;
        for slot in self.table.occupied() {
            if let Some(link) = self.table.get_mut(slot)
                && link.connection.is_requested()
                && link.deadline <= now
            {
                link.connection.end(Farewell::Reset);
                self.settle(slot)?;
            }
        }
        Ok(())
    }

    /// Gives turns to the connections that have something for the guest, while it has buffers.
    pub(super) fn serve(&mut self, rx: &mut Rx) -> Result<(), Failure> {
        self.guest_has_buffers = true;
        let outcome = self.serve_turns(rx);
        let (packets, bytes) = rx.take_traffic();
        self.counters.packets_to_guest.add(packets);
        self.counters.bytes_to_guest.add(bytes);
        outcome
    }

    fn serve_turns(&mut self, rx: &mut Rx) -> Result<(), Failure> {
        while let Some(reset) = self.resets.front() {
            if !rx.send(reset)? {
                return self.blocked();
            }
            self.resets.pop_front();
        }
        for _ in 0..MAX_TURNS {
            let Some(slot) = self.ready.pop_front() else {
                return Ok(());
            };
            let Some(link) = self.table.get_mut(slot) else {
                continue;
            };
            link.queued = false;
            let turn = link.turn(self.guest_cid, rx)?;
            if turn == Turn::Blocked {
                link.queued = true;
                self.ready.push_front(slot);
                return self.blocked();
            }
            self.settle(slot)?;
        }
        if self.ready.is_empty() {
            return Ok(());
        }
        Ok(self.wake()?)
    }

    /// Nothing can be sent until the guest offers a buffer: it kicks then. Sockets that are readable are not watched meanwhile.
    fn blocked(&mut self) -> Result<(), Failure> {
        self.guest_has_buffers = false;
        for at in 0..self.ready.len() {
            if let Some(slot) = self.ready.get(at).copied() {
                self.watch(slot)?;
            }
        }
        Ok(())
    }

    /// Has the device called again soon.
    fn wake(&self) -> io::Result<()> {
        self.again.write(1)
    }

    /// Lets the ticker run while somebody's time is running.
    pub(super) fn keep_time(&mut self) -> io::Result<()> {
        let waits = self.lobby.waits() || self.table.has_requested();
        self.ticker.run(waits)
    }

    /// Draws the conclusions from a change of a connection: closes it, queues it for a turn, watches its socket.
    fn settle(&mut self, slot: usize) -> io::Result<()> {
        let Some(link) = self.table.get_mut(slot) else {
            return Ok(());
        };
        if link.settle() {
            Self::watch_for(link, slot, &self.poller, None)?;
            link.close();
        }
        if link.connection.is_gone() {
            if link.queued {
                self.ready.retain(|other| *other != slot);
            }
            self.table.remove(slot);
            return Ok(());
        }
        if link.has_work() && !link.queued {
            link.queued = true;
            self.ready.push_back(slot);
        }
        self.watch(slot)
    }

    fn watch(&mut self, slot: usize) -> io::Result<()> {
        let Some(link) = self.table.get_mut(slot) else {
            return Ok(());
        };
        let wanted = link.wanted_watch(self.guest_has_buffers);
        Self::watch_for(link, slot, &self.poller, wanted)
    }

    fn watch_for(
        link: &mut Link,
        slot: usize,
        poller: &Poller,
        wanted: Option<Interest>,
    ) -> io::Result<()> {
        let Some(socket) = link.raw_fd().filter(|_| link.watched != wanted) else {
            return Ok(());
        };
        let token = Token::Connection(slot).into();
        match (link.watched, wanted) {
            (None, Some(interest)) => poller.add(socket, token, interest),
            (Some(_), Some(interest)) => poller.modify(socket, token, interest),
            (_, None) => poller.remove(socket),
        }?;
        link.watched = wanted;
        Ok(())
    }

    /// Connections there are now.
    pub(super) fn connections(&self) -> usize {
        self.table.len()
    }
}

/// The unix socket that serves a port of the host.
fn service_path(base: &Path, port: u32) -> PathBuf {
    let mut path = OsString::from(base);
    path.push(format!("_{port}"));
    path.into()
}
