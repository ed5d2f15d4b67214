//! Clients on the host, from the listener until they have said which port of the guest they want.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use super::handshake::{Line, Progress};
use super::limits::{HANDSHAKE_TICKS, MAX_HANDSHAKES, MAX_LINE};
use super::socket;
use super::token::Token;
use crate::event_loop::{Interest, Poller};

/// The listener and the clients that have not said enough.
pub(super) struct Lobby {
    listener: UnixListener,
    listening: bool,
    clients: Vec<Option<Client>>,
}

struct Client {
    socket: OwnedFd,
    line: Line,
    deadline: u64,
}

/// A client that named its port.
pub(super) struct Wish {
    pub(super) socket: OwnedFd,
    pub(super) port: u32,
}

impl Lobby {
    /// Waits at `listener`, which is bound and does not block.
    pub(super) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            listening: false,
            clients: Vec::new(),
        }
    }

    /// Lets clients in, or not: those then wait in the listener's backlog.
    pub(super) fn listen(&mut self, wanted: bool, poller: &Poller) -> io::Result<()> {
        let wanted = wanted && self.vacancy().is_some();
        if wanted != self.listening {
            let listener = self.listener.as_raw_fd();
            if wanted {
                poller.add(listener, Token::Listener.into(), Interest::READ)?;
            } else {
                poller.remove(listener)?;
            }
            self.listening = wanted;
        }
        Ok(())
    }

    /// The listener is readable.
    ///
    /// When a client cannot be let in (no descriptors left), the listener rests until the next [`Self::listen`], since it would
    /// stay readable all the time.
    pub(super) fn accept(&mut self, now: u64, poller: &Poller) -> io::Result<()> {
        while let Some(place) = self.vacancy() {
            let socket = match socket::accept(self.listener.as_fd()) {
                Ok(socket) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    log::warn!("vsock: client cannot be accepted: {error}");
                    break;
                }
            };
            poller.add(
                socket.as_raw_fd(),
                Token::Client(place).into(),
                Interest::READ,
            )?;
            let client = Client {
                socket,
                line: Line::default(),
                deadline: now.saturating_add(HANDSHAKE_TICKS),
            };
            match self.clients.get_mut(place) {
                Some(vacant) => *vacant = Some(client),
                None => self.clients.push(Some(client)),
            }
        }
        self.listen(false, poller)
    }

    /// A client is readable. Returns it once it has named its port; the poller then watches it no more.
    pub(super) fn read(&mut self, place: usize, poller: &Poller) -> io::Result<Option<Wish>> {
        let Some(Some(client)) = self.clients.get_mut(place) else {
            return Ok(None);
        };
        let port = match client.read() {
            Ok(Progress::Partial) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Ok(Progress::Port(port)) => Some(port),
            Ok(Progress::Refused) | Err(_) => None,
        };
        let client = self.dismiss(place, poller)?;
        Ok(port.zip(client).map(|(port, client)| Wish {
            socket: client.socket,
            port,
        }))
    }

    /// Sends away those that have taken too long.
    pub(super) fn expire(&mut self, now: u64, poller: &Poller) -> io::Result<()> {
        for place in 0..self.clients.len() {
            let client = self.clients.get(place).and_then(Option::as_ref);
            if client.is_some_and(|client| client.deadline <= now) {
                self.dismiss(place, poller)?;
            }
        }
        Ok(())
    }

    /// Sends all away.
    pub(super) fn clear(&mut self, poller: &Poller) -> io::Result<()> {
        self.expire(u64::MAX, poller)
    }

    /// Whether anybody's time is running.
    pub(super) fn waits(&self) -> bool {
        !self.listening || self.clients.iter().any(Option::is_some)
    }

    fn vacancy(&self) -> Option<usize> {
        let vacant = self.clients.iter().position(Option::is_none);
        let place = vacant.unwrap_or(self.clients.len());
        (place < MAX_HANDSHAKES).then_some(place)
    }

    fn dismiss(&mut self, place: usize, poller: &Poller) -> io::Result<Option<Client>> {
        let client = self.clients.get_mut(place).and_then(Option::take);
        if let Some(client) = &client {
            poller.remove(client.socket.as_raw_fd())?;
        }
        Ok(client)
    }
}

impl Client {
    /// Reads of the line what is there, and nothing behind it.
    fn read(&mut self) -> io::Result<Progress> {
        let mut bytes = [0; MAX_LINE];
        let count = socket::peek(self.socket.as_fd(), &mut bytes)?;
        let input = bytes.get(..count).unwrap_or_default();
        let wanted = self.line.wanted(input);
        if wanted == 0 {
            // End of stream before the end of the line.
            return Ok(Progress::Refused);
        }
        let wanted = bytes.get_mut(..wanted).unwrap_or_default();
        let count = socket::take(self.socket.as_fd(), wanted)?;
        Ok(self.line.push(wanted.get(..count).unwrap_or_default()))
    }
}
