//! The one event loop that serves virtio devices: a thread of its own for a busy device, or many on the VMM's main loop.
//!
//! ```text
//!   transport (vCPU threads) ── Command ──► worker ── activate / process_* / reset ──► device
//!                            ◄── Shared ──  (resets done, needs reset, counters)
//! ```
//!
//! Transports send and go on: no processor thread ever waits for a worker, so the two cannot deadlock. A reset is
//! therefore finished some time after it was asked for, and the driver sees that in the status register (virtio 1.2, 4.1.4.3.2).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{Activation, DeviceType, VirtioDevice};
use super::seat::{Seat, Shared, Watch};
use crate::event_loop::{Interest, Poller, Readiness};

/// Token of the eventfd that announces commands.
const WAKE: u64 = u64::MAX;

/// Why a worker cannot be made or reached.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No descriptors left.
    #[error("device worker cannot be set up")]
    SetUp(#[source] io::Error),
    /// Waiting for events failed.
    #[error("device worker cannot wait for events")]
    Wait(#[source] io::Error),
    /// Its thread has ended.
    #[error("device worker has ended")]
    Gone,
}

enum Command {
    Activate(usize, Activation),
    Reset(usize),
    Pause(Sender<()>),
    Resume,
    Stop,
}

/// Sends commands to a worker, from any thread.
#[derive(Clone)]
pub struct WorkerHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

impl WorkerHandle {
    fn send(&self, command: Command) -> Result<(), WorkerError> {
        self.commands.send(command).map_err(|_| WorkerError::Gone)?;
        self.wake.write(1).map_err(WorkerError::Wait)
    }

    /// Asks the worker to leave its devices alone. It has done so once the receiver has something; an error there means that it
    /// has ended. Not to be waited for on the thread that runs the worker: that one calls [`Worker::pause`].
    pub fn pause(&self) -> Result<Receiver<()>, WorkerError> {
        let (done, wait) = channel();
        self.send(Command::Pause(done))?;
        Ok(wait)
    }

    /// Ends a pause.
    pub fn resume(&self) -> Result<(), WorkerError> {
        self.send(Command::Resume)
    }

    /// Makes [`Worker::run`] return.
    pub fn stop(&self) -> Result<(), WorkerError> {
        self.send(Command::Stop)
    }
}

/// What is fixed about a device, and the way to the worker that owns it.
#[derive(Clone)]
pub struct DeviceHandle {
    facts: Arc<Facts>,
    seat: usize,
    shared: Arc<Shared>,
    worker: WorkerHandle,
}

struct Facts {
    device_type: DeviceType,
    queue_sizes: Vec<u16>,
    features: u64,
    config: Vec<u8>,
}

impl DeviceHandle {
    /// Kind of the device.
    #[must_use]
    pub fn device_type(&self) -> DeviceType {
        self.facts.device_type
    }

    /// Largest size of each queue.
    #[must_use]
    pub fn queue_sizes(&self) -> &[u16] {
        &self.facts.queue_sizes
    }

    /// Device-specific feature bits.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.facts.features
    }

    /// Device-specific configuration.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.facts.config
    }

    /// The device's counters as they were when it last had something to do: exact while it is idle. Never waits.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters()
    }

    /// Whether the device has given up on its driver since the last reset.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.shared.needs_reset()
    }

    /// How many resets the device has finished.
    pub(super) fn resets_done(&self) -> u64 {
        self.shared.resets_done()
    }

    /// Gives the device its queues.
    pub(super) fn activate(&self, activation: Activation) -> Result<(), WorkerError> {
        self.worker.send(Command::Activate(self.seat, activation))
    }

    /// Asks for a reset; [`Self::resets_done`] counts it once the device has let go of its queues.
    pub(super) fn reset(&self) -> Result<(), WorkerError> {
        self.worker.send(Command::Reset(self.seat))
    }
}

/// Owns devices and calls them when something happens. Its descriptor is readable when [`Worker::dispatch`] has work.
pub struct Worker {
    poller: Poller,
    commands: Receiver<Command>,
    handle: WorkerHandle,
    seats: Vec<Seat>,
    paused: bool,
    stopped: bool,
    ready: Vec<Readiness>,
}

impl Worker {
    /// A worker with no devices.
    pub fn new() -> Result<Self, WorkerError> {
        let poller = Poller::new().map_err(WorkerError::SetUp)?;
        let wake = EventFd::new(EFD_NONBLOCK).map_err(WorkerError::SetUp)?;
        poller
            .add(wake.as_raw_fd(), WAKE, Interest::READ)
            .map_err(WorkerError::SetUp)?;
        let (sender, commands) = channel();
        Ok(Self {
            poller,
            commands,
            handle: WorkerHandle {
                commands: sender,
                wake: Arc::new(wake),
            },
            seats: Vec::new(),
            paused: false,
            stopped: false,
            ready: Vec::new(),
        })
    }

    /// Takes `device` in. The handle goes to the device's transport.
    pub fn add(&mut self, device: Box<dyn VirtioDevice>) -> DeviceHandle {
        let facts = Facts {
            device_type: device.device_type(),
            queue_sizes: device.queue_sizes().to_vec(),
            features: device.features(),
            config: device.config(),
        };
        let shared = Arc::new(Shared::new(device.counters()));
        let seat = self.seats.len();
        self.seats.push(Seat::new(device, shared.clone()));
        DeviceHandle {
            facts: Arc::new(facts),
            seat,
            shared,
            worker: self.handle.clone(),
        }
    }

    /// A way to command this worker from elsewhere.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Serves until it is stopped.
    pub fn run(mut self) -> Result<(), WorkerError> {
        while !self.stopped {
            self.turn(-1)?;
        }
        Ok(())
    }

    /// Serves what is ready and returns; for workers driven by another event loop.
    pub fn dispatch(&mut self) -> Result<(), WorkerError> {
        self.turn(0)
    }

    /// Leaves all devices alone until [`Worker::resume`].
    pub fn pause(&mut self) -> Result<(), WorkerError> {
        self.paused = true;
        self.rewatch()
    }

    /// Goes on with what happened meanwhile.
    pub fn resume(&mut self) -> Result<(), WorkerError> {
        self.paused = false;
        self.rewatch()
    }

    fn rewatch(&mut self) -> Result<(), WorkerError> {
        for index in 0..self.seats.len() {
            self.watch(index)?;
        }
        Ok(())
    }

    /// Brings what is watched for seat `index` in line with what its device wants now.
    fn watch(&mut self, index: usize) -> Result<(), WorkerError> {
        let Some(seat) = self.seats.get_mut(index) else {
            return Ok(());
        };
        seat.watch(&self.poller, index, !self.paused)
            .map_err(WorkerError::Wait)
    }

    fn turn(&mut self, timeout_ms: i32) -> Result<(), WorkerError> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller
            .wait(timeout_ms, &mut ready)
            .map_err(WorkerError::Wait)?;
        for event in &ready {
            match Watch::from_token(event.token) {
                _ if event.token == WAKE => self.obey()?,
                // A command earlier in this batch may have paused the worker.
                Some(watch) if !self.paused => self.serve(watch)?,
                _ => {}
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn serve(&mut self, watch: Watch) -> Result<(), WorkerError> {
        if let Some(seat) = self.seats.get_mut(watch.seat) {
            seat.serve(watch.source);
        }
        self.watch(watch.seat)
    }

    fn obey(&mut self) -> Result<(), WorkerError> {
        // The counter says only that there are commands; another turn may have taken them already.
        drop(self.handle.wake.read());
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Activate(index, activation) => {
                    if let Some(seat) = self.seats.get_mut(index) {
                        seat.activate(activation);
                    }
                    self.watch(index)?;
                }
                Command::Reset(index) => {
                    if let Some(seat) = self.seats.get_mut(index) {
                        seat.reset(&self.poller, index).map_err(WorkerError::Wait)?;
                    }
                }
                Command::Pause(done) => {
                    self.pause()?;
                    // Nobody needs to know if the one who asked has gone.
                    done.send(()).unwrap_or_default();
                }
                Command::Resume => self.resume()?,
                Command::Stop => self.stopped = true,
            }
        }
        Ok(())
    }
}

impl AsRawFd for Worker {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}
