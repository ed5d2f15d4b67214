//! Standard input on its way to the serial port: read only when the guest has room for it.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use devices::event_loop::{Interest, Poller};
use devices::legacy::serial::SerialPort;

use super::main_loop::token;

const STDIN: RawFd = 0;
/// Bytes read at a time: what the UART's queue holds.
const CHUNK: usize = 64;

/// The pump.
pub(super) struct SerialInput {
    port: Arc<SerialPort>,
    watched: bool,
    /// Nothing more will come.
    ended: bool,
}

impl SerialInput {
    /// Begins to watch standard input. One that cannot be watched, such as a regular file, is no input.
    pub(super) fn new(port: Arc<SerialPort>, poller: &Poller) -> Self {
        let watched = poller.add(STDIN, token::STDIN, Interest::READ).is_ok();
        Self {
            port,
            watched,
            ended: !watched,
        }
    }

    /// Readable when the guest has read all input: then [`SerialInput::resume`] is to be called.
    pub(super) fn drained(&self) -> RawFd {
        self.port.drained().as_raw_fd()
    }

    /// Standard input is readable.
    pub(super) fn forward(&mut self, poller: &Poller) {
        let mut buffer = [0; CHUNK];
        let room = self.port.room().min(CHUNK);
        if room == 0 {
            return self.stop(poller);
        }
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..room]) {
            Ok(0) => {
                self.ended = true;
                self.stop(poller);
            }
            Ok(count) => {
                self.port.input(&buffer[..count]);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => {
                log::warn!("standard input cannot be read: {error}");
                self.ended = true;
                self.stop(poller);
            }
        }
    }

    /// The guest has read everything: go on if it was the lack of room that stopped us.
    pub(super) fn resume(&mut self, poller: &Poller) {
        // Nobody else reads it, so it is readable.
        drop(self.port.drained().read());
        if !self.watched && !self.ended {
            self.watched = poller.add(STDIN, token::STDIN, Interest::READ).is_ok();
        }
    }

    fn stop(&mut self, poller: &Poller) {
        if self.watched
            && let Err(error) = poller.remove(STDIN)
        {
            log::warn!("standard input cannot be left alone: {error}");
        }
        self.watched = false;
    }
}
