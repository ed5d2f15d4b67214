//! The main thread: starts the processors, then serves everything that has no thread of its own until the machine ends.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use devices::event_loop::{Interest, Poller};
use devices::legacy::serial::SerialPort;

use super::{Control, Outcome, threads, vcpu_thread};
use crate::builder::Machine;
use crate::kvm::Kicker;

/// Why a machine could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A thread could not be started.
    #[error("cannot start the {0} thread")]
    Thread(&'static str, #[source] io::Error),
    /// The main loop failed.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    /// The signal that stops processors cannot be had.
    #[error("cannot install the processors' signal handler")]
    Signal(#[source] io::Error),
}

/// Who a readiness is for.
mod token {
    pub(super) const ENDED: u64 = 0;
    pub(super) const STDIN: u64 = 1;
    pub(super) const SERIAL_DRAINED: u64 = 2;
}

const STDIN: RawFd = 0;

/// Runs the machine to its end. Its memory and buses must outlive the process's other threads, which are not waited for: one
/// may be writing to a full pipe.
pub(crate) fn run(machine: &mut Machine, control: &Control) -> Result<Outcome, RunError> {
    Kicker::install().map_err(RunError::Signal)?;
    let poller = Poller::new().map_err(RunError::Poll)?;
    let watch = |fd, token| {
        poller
            .add(fd, token, Interest::READ)
            .map_err(RunError::Poll)
    };
    watch(control.ended().as_raw_fd(), token::ENDED)?;
    let mut input = machine.serial_input.clone().map(SerialInput::new);
    if let Some(input) = &mut input {
        watch(input.port.drained().as_raw_fd(), token::SERIAL_DRAINED)?;
        input.watch(&poller);
    }
    for (id, vcpu) in machine.vcpus.drain(..).enumerate() {
        let (buses, control) = (machine.buses.clone(), control.clone());
        let work = move || vcpu_thread::run(id, vcpu, &buses, &control);
        threads::spawn(format!("vcpu{id}"), work)
            .map_err(|error| RunError::Thread("processor", error))?;
    }
    let mut ready = Vec::new();
    loop {
        poller.wait(-1, &mut ready).map_err(RunError::Poll)?;
        for event in &ready {
            match (event.token, &mut input) {
                (token::ENDED, _) => {
                    if let Some(outcome) = control.take_outcome() {
                        return Ok(outcome);
                    }
                }
                (token::STDIN, Some(input)) => input.forward(&poller),
                (token::SERIAL_DRAINED, Some(input)) => input.resume(&poller),
                _ => {}
            }
        }
    }
}

/// Standard input on its way to the serial port: read only when the guest has room for it.
struct SerialInput {
    port: Arc<SerialPort>,
    watched: bool,
}

impl SerialInput {
    fn new(port: Arc<SerialPort>) -> Self {
        Self {
            port,
            watched: false,
        }
    }

    /// Begins to read. Standard input that cannot be watched (a regular file) is no input.
    fn watch(&mut self, poller: &Poller) {
        self.watched = poller.add(STDIN, token::STDIN, Interest::READ).is_ok();
    }

    fn stop(&mut self, poller: &Poller) {
        if self.watched
            && let Err(error) = poller.remove(STDIN)
        {
            log::warn!("standard input cannot be left alone: {error}");
        }
        self.watched = false;
    }

    fn forward(&mut self, poller: &Poller) {
        let mut buffer = [0; 64];
        let room = self.port.room().min(buffer.len());
        if room == 0 {
            return self.stop(poller);
        }
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..room]) {
            Ok(0) | Err(_) => self.stop(poller),
            Ok(count) => {
                self.port.input(&buffer[..count]);
            }
        }
    }

    /// The guest has read everything: go on if it was the lack of room that stopped us.
    fn resume(&mut self, poller: &Poller) {
        // Nobody else reads it, so it is readable.
        drop(self.port.drained().read());
        if !self.watched {
            self.watch(poller);
        }
    }
}
