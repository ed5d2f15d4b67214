//! The main thread: starts the other threads, then serves everything that has none of its own until the machine ends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use devices::event_loop::{Interest, Poller};
use devices::virtio::worker::WorkerError;

use super::operator::Operator;
use super::serial_input::SerialInput;
use super::{Control, EndSignals, Outcome, threads, vcpu_thread};
use crate::api::Server;
use crate::builder::{DeviceWorker, Machine};
use crate::confine::{self, ConfineError, ThreadKind};
use crate::error::chain;
use crate::kvm::Kicker;

/// Why a machine could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A thread could not be started.
    #[error("cannot start the thread {0}")]
    Thread(String, #[source] io::Error),
    /// Standard input is not a pipe, or serves the guest already.
    #[error("cannot use standard input as lifeline")]
    Lifeline(#[source] io::Error),
    /// The main loop failed.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    /// The main thread's devices cannot be served.
    #[error("cannot serve devices")]
    Devices(#[source] WorkerError),
    /// The signal that stops processors cannot be had.
    #[error("cannot install the processors' signal handler")]
    Signal(#[source] io::Error),
    /// The main thread cannot give up what it does not need.
    #[error("cannot confine the process")]
    Confine(#[source] ConfineError),
}

/// Who a readiness is for.
pub(super) mod token {
    pub(in super::super) const ENDED: u64 = 0;
    pub(in super::super) const STDIN: u64 = 1;
    pub(in super::super) const SERIAL_DRAINED: u64 = 2;
    pub(in super::super) const DEVICES: u64 = 3;
    pub(in super::super) const API: u64 = 4;
    pub(in super::super) const LIFELINE: u64 = 5;
    pub(in super::super) const SIGNALS: u64 = 6;
}

/// Runs the machine to its end. Its memory and buses must outlive the process's other threads, which are not waited for: one
/// may be writing to a full pipe. The machine also ends when `lifeline`, a pipe, has no writer any more.
pub(crate) fn run(
    machine: &mut Machine,
    control: &Control,
    mut api: Option<Server>,
    lifeline: Option<BorrowedFd<'_>>,
    signals: &EndSignals,
) -> Result<Outcome, RunError> {
    confine::process().map_err(RunError::Confine)?;
    Kicker::install().map_err(RunError::Signal)?;
    let poller = Poller::new().map_err(RunError::Poll)?;
    let watch = |fd, token| {
        poller
            .add(fd, token, Interest::READ)
            .map_err(RunError::Poll)
    };
    watch(control.ended().as_raw_fd(), token::ENDED)?;
    watch(signals.as_raw_fd(), token::SIGNALS)?;
    watch(machine.devices.main.as_raw_fd(), token::DEVICES)?;
    let input = machine.serial_input.clone();
    let mut input = input.map(|port| SerialInput::new(port, &poller));
    if let Some(input) = &input {
        watch(input.drained(), token::SERIAL_DRAINED)?;
    }
    if let Some(api) = &api {
        watch(api.as_raw_fd(), token::API)?;
    }
    if let Some(lifeline) = lifeline {
        // What is written to it means nothing: only its end counts, which is always reported.
        poller
            .add(lifeline.as_raw_fd(), token::LIFELINE, Interest::NONE)
            .map_err(RunError::Lifeline)?;
    }
    let workers = &machine.devices.workers;
    let workers: Vec<_> = workers.iter().map(|entry| entry.worker.handle()).collect();
    start_threads(machine, control)?;
    confine::thread(ThreadKind::Main).map_err(RunError::Confine)?;
    let mut ready = Vec::new();
    loop {
        poller.wait(-1, &mut ready).map_err(RunError::Poll)?;
        for event in &ready {
            match (event.token, &mut input) {
                (token::ENDED, _) => {
                    if let Some(outcome) = control.take_outcome() {
                        machine.devices.sockets.clear();
                        return Ok(outcome);
                    }
                }
                (token::DEVICES, _) => {
                    machine.devices.main.dispatch().map_err(RunError::Devices)?;
                }
                (token::API, _) => {
                    let mut operator = Operator {
                        control,
                        main: &mut machine.devices.main,
                        workers: &workers,
                        devices: &machine.devices.handles,
                        acpi: &machine.acpi,
                    };
                    let served = api.as_mut().map(|api| api.dispatch(&mut operator));
                    served.transpose().map_err(RunError::Poll)?;
                }
                (token::LIFELINE | token::SIGNALS, _) => control.end(Outcome::Killed),
                (token::STDIN, Some(input)) => input.forward(&poller),
                (token::SERIAL_DRAINED, Some(input)) => input.resume(&poller),
                _ => {}
            }
        }
    }
}

fn start_threads(machine: &mut Machine, control: &Control) -> Result<(), RunError> {
    for worker in machine.devices.workers.drain(..) {
        let DeviceWorker { kind, name, worker } = worker;
        let at_its_end = control.clone();
        let device = name.clone();
        let serve = move || {
            if let Err(error) = worker.run() {
                let what = format!("device {device}: {}", chain(&error));
                at_its_end.end(Outcome::Unexpected(what));
            }
            // A worker's filter has no call that ends a thread: the process's end is its.
            loop {
                std::thread::park();
            }
        };
        let gate = control.clone();
        spawn(kind, name, move || confined(kind, &gate, serve))?;
    }
    for (id, vcpu) in machine.vcpus.drain(..).enumerate() {
        let (buses, gate) = (machine.buses.clone(), control.clone());
        let memory = machine.memory.clone();
        let work = move || vcpu_thread::run(id, vcpu, &memory, &buses, &gate);
        spawn(ThreadKind::Vcpu, format!("vcpu{id}"), work)?;
    }
    Ok(())
}

/// Goes on confined; a thread that cannot be ends the machine.
pub(super) fn confined(kind: ThreadKind, control: &Control, work: impl FnOnce()) {
    match confine::thread(kind) {
        Ok(()) => work(),
        Err(error) => control.end(Outcome::Unconfined(error)),
    }
}

fn spawn(
    kind: ThreadKind,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), RunError> {
    threads::spawn(kind, name.clone(), work)
        .map(drop)
        .map_err(|error| RunError::Thread(name, error))
}
