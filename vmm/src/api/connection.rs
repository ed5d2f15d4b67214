//! One client: what it has sent, and what it is still to be sent. Never blocks.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use devices::event_loop::Interest;

use super::http::{self, MAX_BODY, MAX_HEAD};
use super::routes::{self, Target};

/// Bytes read at a time.
const CHUNK: usize = 4 << 10;

/// Requests answered before others have their turn.
const BURST: usize = 8;

/// A client's connection.
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Nothing more is read; the connection ends once `output` is sent.
    closing: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            closing: false,
        }
    }

    /// Reads, answers and writes as far as it goes. Returns what to wait for, or `None` when the connection has ended.
    pub(super) fn serve(&mut self, target: &mut dyn Target) -> Option<Interest> {
        for _ in 0..BURST {
            self.write()?;
            if !self.output.is_empty() {
                return Some(Interest::WRITE);
            }
            if self.closing {
                return None;
            }
            while !self.answer(target) {
                if !self.read()? {
                    return Some(Interest::READ);
                }
            }
        }
        // There is an answer to write, so this comes back at once.
        Some(Interest::WRITE)
    }

    /// Answers the first request that is there as a whole. Returns whether there was one.
    fn answer(&mut self, target: &mut dyn Target) -> bool {
        let (response, keep_alive) = match http::parse(&self.input) {
            Ok(None) => return false,
            Ok(Some(request)) => {
                self.input.drain(..request.len);
                let response = routes::answer(&request.method, &request.target, target);
                (response, request.keep_alive)
            }
            Err(error) => (routes::error(error.status(), error.to_string()), false),
        };
        self.output = response.bytes(keep_alive);
        self.closing = !keep_alive;
        true
    }

    /// Reads some. Returns whether there was anything; `None` when the client has gone.
    ///
    /// The input stays bounded: a head or body that is too long is an answer before it is read.
    fn read(&mut self) -> Option<bool> {
        debug_assert!(
            self.input.len() <= MAX_HEAD + MAX_BODY,
            "a request past its limits"
        );
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => None,
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Some(true)
            }
            Err(error) => goes_on(error.kind()),
        }
    }

    /// Sends what is to be sent; `None` when the client has gone.
    fn write(&mut self) -> Option<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) => match goes_on(error.kind()) {
                    Some(true) => {}
                    Some(false) => return Some(()),
                    None => return None,
                },
            }
        }
        Some(())
    }
}

/// Whether to try again at once (`true`) or later, if at all.
fn goes_on(error: ErrorKind) -> Option<bool> {
    match error {
        ErrorKind::Interrupted => Some(true),
        ErrorKind::WouldBlock => Some(false),
        _ => None,
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
