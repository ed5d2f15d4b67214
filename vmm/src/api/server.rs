//! The unix socket: lets clients in and serves those that are ready, on the main thread.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use devices::event_loop::{Interest, Poller, Readiness};
use vmm_sys_util::eventfd::EventFd;

use super::caretaker::Caretaker;
use super::connection::Connection;
use super::routes::Target;

/// Most clients at a time. A further one takes the place of the one that has been silent for longest.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// Token of the listener; the others are numbers of connections.
const LISTENER: u64 = u64::MAX;

/// Serves the API. Its descriptor is readable when [`Server::dispatch`] has work.
pub(crate) struct Server {
    #[expect(dead_code, reason = "held, not read")]
    caretaker: Caretaker,
    listener: UnixListener,
    poller: Poller,
    /// By number, in the order of their last word.
    connections: Vec<(u64, Connection)>,
    next: u64,
    events: Vec<Readiness>,
    /// A descriptor to give up when there is none left for a client, who would else stay at the door and wake us for ever.
    spare: Option<EventFd>,
}

/// The API's socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the API at {}", path.display())]
pub(crate) struct ApiSocketError {
    path: PathBuf,
    source: io::Error,
}

impl Server {
    /// Makes a unix socket at `path`, and serves its clients. To be called before the process has threads: it is copied.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, ApiSocketError> {
        UnixListener::bind(&path)
            .and_then(|listener| Self::new(&path, listener))
            .map_err(|source| ApiSocketError { path, source })
    }

    fn new(path: &Path, listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add(listener.as_raw_fd(), LISTENER, Interest::READ)?;
        Ok(Self {
            caretaker: Caretaker::start(path)?,
            listener,
            poller,
            connections: Vec::new(),
            next: 0,
            events: Vec::new(),
            spare: EventFd::new(0).ok(),
        })
    }

    /// Serves what is ready, and returns.
    pub(crate) fn dispatch(&mut self, target: &mut dyn Target) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.poller.wait(0, &mut events)?;
        for event in &events {
            match event.token {
                LISTENER => self.accept()?,
                number => self.serve(number, target)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.turn_away();
                    return Ok(());
                }
            };
            stream.set_nonblocking(true)?;
            if self.connections.len() >= MAX_CONNECTIONS {
                self.dismiss(0)?;
            }
            self.poller
                .add(stream.as_raw_fd(), self.next, Interest::READ)?;
            self.connections.push((self.next, Connection::new(stream)));
            self.next = self.next.wrapping_add(1) % LISTENER;
        }
    }

    fn turn_away(&mut self) {
        self.spare = None;
        drop(self.listener.accept());
        self.spare = EventFd::new(0).ok();
    }

    fn serve(&mut self, number: u64, target: &mut dyn Target) -> io::Result<()> {
        let at = self
            .connections
            .iter()
            .position(|(other, _)| *other == number);
        // One that was sent away in the same batch has no place any more.
        let Some(at) = at else {
            return Ok(());
        };
        let Some(interest) = self.connections[at].1.serve(target) else {
            return self.dismiss(at);
        };
        let entry = self.connections.remove(at);
        self.poller.modify(entry.1.as_raw_fd(), number, interest)?;
        self.connections.push(entry);
        Ok(())
    }

    fn dismiss(&mut self, at: usize) -> io::Result<()> {
        let (_, connection) = self.connections.remove(at);
        self.poller.remove(connection.as_raw_fd())
    }
}

impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}
