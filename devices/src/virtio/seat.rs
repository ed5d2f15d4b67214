//! One device's place at a worker: its state, and which descriptors are watched for it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::device::{Activation, NeedsReset, VirtioDevice};
use crate::event_loop::{Interest, Poller};
use crate::irq::Interrupt;
use crate::log_limit::LogLimit;

/// What a transport, or the API, may know of a device at any time.
pub(super) struct Shared {
    needs_reset: AtomicBool,
    resets_done: AtomicU64,
    counters: Mutex<Vec<(&'static str, u64)>>,
}

impl Shared {
    pub(super) fn new(counters: Vec<(&'static str, u64)>) -> Self {
        Self {
            needs_reset: AtomicBool::new(false),
            resets_done: AtomicU64::new(0),
            counters: Mutex::new(counters),
        }
    }

    pub(super) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    pub(super) fn resets_done(&self) -> u64 {
        self.resets_done.load(Ordering::Acquire)
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counters.lock();
        counters.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a device can be called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The doorbell of a queue.
    Queue(u16),
    /// The device's own descriptor.
    Device,
}

/// A source of one seat, as the poller's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) seat: usize,
    pub(super) source: Source,
}

/// Marks the token of a device's own descriptor.
const DEVICE_BIT: u64 = 1 << 16;

impl Watch {
    fn token(self) -> u64 {
        let low = match self.source {
            Source::Queue(index) => u64::from(index),
            Source::Device => DEVICE_BIT,
        };
        (self.seat as u64) << 32 | low
    }

    pub(super) fn from_token(token: u64) -> Option<Self> {
        let low = token & u64::from(u32::MAX);
        let source = match low {
            DEVICE_BIT => Source::Device,
            _ => Source::Queue(u16::try_from(low).ok()?),
        };
        let seat = usize::try_from(token >> 32).ok()?;
        Some(Self { seat, source })
    }
}

/// The device's life as its worker sees it.
enum Life {
    /// No driver.
    Inactive,
    /// Served; the interrupt tells the driver of failures.
    Active(Arc<dyn Interrupt>),
    /// It gave up on its driver and waits for a reset.
    Failed,
}

/// A device and what the worker knows of it.
pub(super) struct Seat {
    device: Box<dyn VirtioDevice>,
    shared: Arc<Shared>,
    life: Life,
    /// Doorbells of the enabled queues. They stay open while the poller has them, whatever becomes of the device.
    kicks: Vec<(u16, Arc<EventFd>)>,
    kicks_watched: bool,
    device_watched: Option<RawFd>,
    failures: u64,
}

impl Seat {
    pub(super) fn new(device: Box<dyn VirtioDevice>, shared: Arc<Shared>) -> Self {
        Self {
            device,
            shared,
            life: Life::Inactive,
            kicks: Vec::new(),
            kicks_watched: false,
            device_watched: None,
            failures: 0,
        }
    }

    /// The driver has set `DRIVER_OK`.
    pub(super) fn activate(&mut self, activation: Activation) {
        let config_changed = activation.config_changed.clone();
        let queues = (0..).zip(&activation.queues);
        self.kicks = queues
            .filter_map(|(index, queue)| Some((index, queue.as_ref()?.kick().clone())))
            .collect();
        for (_, kick) in &self.kicks {
            // Requests may have been there before anyone watches. Fails only when the counter is full, which wakes as well.
            drop(kick.write(1));
        }
        let outcome = self.device.activate(activation);
        self.life = Life::Active(config_changed);
        if let Err(error) = outcome {
            self.fail(&error);
        }
        self.publish();
    }

    /// Calls the device for what happened, if it is active.
    pub(super) fn serve(&mut self, source: Source) {
        if !matches!(self.life, Life::Active(_)) {
            return;
        }
        let outcome = match source {
            Source::Queue(index) => {
                if let Some((_, kick)) = self.kicks.iter().find(|(of, _)| *of == index) {
                    // Empty if nobody kicked: then the queue is merely looked at.
                    drop(kick.read());
                }
                self.device.process_queue(index.into())
            }
            Source::Device => self.device.process_events(),
        };
        if let Err(error) = outcome {
            self.fail(&error);
        }
        self.publish();
    }

    fn fail(&mut self, error: &NeedsReset) {
        static LIMIT: LogLimit = LogLimit::new();
        if LIMIT.allows() {
            log::warn!("device needs a reset: {error}");
        }
        self.failures = self.failures.saturating_add(1);
        self.shared.needs_reset.store(true, Ordering::Release);
        if let Life::Active(config_changed) = std::mem::replace(&mut self.life, Life::Failed)
            && let Err(error) = config_changed.trigger()
            && LIMIT.allows()
        {
            log::warn!("driver cannot be told: {error}");
        }
    }

    /// The driver wants a reset.
    pub(super) fn reset(&mut self, poller: &Poller, seat: usize) -> io::Result<()> {
        self.watch(poller, seat, false)?;
        self.kicks.clear();
        self.device.reset();
        self.life = Life::Inactive;
        self.shared.needs_reset.store(false, Ordering::Release);
        self.shared.resets_done.fetch_add(1, Ordering::Release);
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let mut counters = self.device.counters();
        counters.push(("resets", self.shared.resets_done()));
        counters.push(("failures", self.failures));
        let shared = self.shared.counters.lock();
        *shared.unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// Watches what the device wants to be called for now: nothing unless it is active and `running`.
    pub(super) fn watch(&mut self, poller: &Poller, seat: usize, running: bool) -> io::Result<()> {
        let served = running && matches!(self.life, Life::Active(_));
        if served != self.kicks_watched {
            for (index, kick) in &self.kicks {
                let source = Source::Queue(*index);
                let token = Watch { seat, source }.token();
                let fd = kick.as_raw_fd();
                if served {
                    poller.add(fd, token, Interest::READ)?;
                } else {
                    poller.remove(fd)?;
                }
            }
            self.kicks_watched = served;
        }
        let wanted = self.device.event_fd().filter(|_| served);
        if wanted != self.device_watched {
            if let Some(fd) = self.device_watched.take() {
                poller.remove(fd)?;
            }
            let source = Source::Device;
            if let Some(fd) = wanted {
                poller.add(fd, Watch { seat, source }.token(), Interest::READ)?;
            }
            self.device_watched = wanted;
        }
        Ok(())
    }
}
