//! Starts, stops and ends the processors of one machine, from any thread.
//!
//! ```text
//!  Running <--pause / resume--> Paused
//!     |                           |
//!     +------- end(outcome) ------+--> Exiting
//! ```
//!
//! A processor thread looks at the state only when it was kicked out of the guest, so running costs nothing. Locks: `state` and
//! `kickers` are never held together.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::legacy::MachineEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Outcome;
use super::counters::ExitCounters;
use crate::kvm::{Kicker, Vcpu};

/// How long processors may take to stop: they finish the register access they are at.
const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// What the processors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// They run the guest.
    Running,
    /// They wait.
    Paused,
    /// They end.
    Exiting,
}

/// Why a machine could not be paused or resumed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ControlError {
    /// It is about to end.
    #[error("the machine is ending")]
    Ending,
    /// A processor did not stop in time.
    #[error("a processor does not stop")]
    Busy,
    /// A device did not stop in time.
    #[error("a device does not stop")]
    DeviceBusy,
}

struct State {
    wanted: RunState,
    /// Processor threads that wait for `resume`.
    parked: usize,
    outcome: Option<Outcome>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// One for each processor whose thread runs.
    kickers: Mutex<Vec<Option<Kicker>>>,
    counters: Vec<ExitCounters>,
    ended: EventFd,
}

/// A handle to the processors. All clones are the same machine.
#[derive(Clone)]
pub(crate) struct Control {
    shared: Arc<Shared>,
}

impl Control {
    /// For a machine with `vcpus` processors, which run as soon as their threads exist.
    pub(crate) fn new(vcpus: u8) -> io::Result<Self> {
        let count = usize::from(vcpus);
        Ok(Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    wanted: RunState::Running,
                    parked: 0,
                    outcome: None,
                }),
                changed: Condvar::new(),
                kickers: Mutex::new((0..count).map(|_| None).collect()),
                counters: (0..count).map(|_| ExitCounters::default()).collect(),
                ended: EventFd::new(EFD_NONBLOCK)?,
            }),
        })
    }

    /// What the processors do.
    pub(crate) fn state(&self) -> RunState {
        self.lock().wanted
    }

    /// Stops the processors. Returns when all of them wait; after a failure they run on.
    pub(crate) fn pause(&self) -> Result<(), ControlError> {
        self.change(RunState::Paused)?;
        self.kick_all();
        let all = self.shared.counters.len();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.lock(), PAUSE_LIMIT, |state| {
                state.wanted == RunState::Paused && state.parked < all
            })
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = state.wanted;
        drop(state);
        match (wanted, timeout.timed_out()) {
            (RunState::Exiting, _) => Err(ControlError::Ending),
            (_, false) => Ok(()),
            (_, true) => self.resume().and(Err(ControlError::Busy)),
        }
    }

    /// Lets the processors run on.
    pub(crate) fn resume(&self) -> Result<(), ControlError> {
        self.change(RunState::Running)?;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Ends the machine. The first outcome counts.
    pub(crate) fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.wanted = RunState::Exiting;
        state.outcome.get_or_insert(outcome);
        drop(state);
        self.shared.changed.notify_all();
        // The processors are not kicked: the main thread ends the process.
        // A full counter is a pending signal already.
        drop(self.shared.ended.write(1));
    }

    /// Readable once the machine has ended.
    pub(crate) fn ended(&self) -> &EventFd {
        &self.shared.ended
    }

    /// How the machine ended, once.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        self.lock().outcome.take()
    }

    /// Exits of all processors by reason.
    pub(crate) fn exits(&self) -> BTreeMap<&'static str, u64> {
        let mut sum = BTreeMap::new();
        for (name, count) in self.shared.counters.iter().flat_map(ExitCounters::read) {
            *sum.entry(name).or_default() += count;
        }
        sum
    }

    /// The counters of processor `id`.
    pub(super) fn counters(&self, id: usize) -> Option<&ExitCounters> {
        self.shared.counters.get(id)
    }

    /// Called on the thread of processor `id` before it first runs.
    pub(super) fn enlist(&self, id: usize, vcpu: &mut Vcpu) {
        if let Some(slot) = self.kickers().get_mut(id) {
            *slot = Some(vcpu.kicker());
        }
    }

    /// Called on the thread of processor `id` before the processor is dropped.
    pub(super) fn retire(&self, id: usize) {
        if let Some(slot) = self.kickers().get_mut(id) {
            *slot = None;
        }
    }

    /// Called by a processor's thread when it was kicked, and at its start. Waits while the machine is paused; says whether
    /// to run the guest, and whether it waited.
    pub(super) fn gate(&self) -> Gate {
        let mut state = self.lock();
        let mut waited = false;
        while state.wanted == RunState::Paused {
            waited = true;
            state.parked += 1;
            self.shared.changed.notify_all();
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.parked -= 1;
        }
        match (state.wanted, waited) {
            (RunState::Exiting, _) => Gate::End,
            (_, true) => Gate::RunAfterPause,
            (_, false) => Gate::Run,
        }
    }

    fn change(&self, wanted: RunState) -> Result<(), ControlError> {
        let mut state = self.lock();
        if state.wanted == RunState::Exiting {
            return Err(ControlError::Ending);
        }
        state.wanted = wanted;
        Ok(())
    }

    fn kick_all(&self) {
        for kicker in self.kickers().iter().flatten() {
            kicker.kick();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn kickers(&self) -> MutexGuard<'_, Vec<Option<Kicker>>> {
        self.shared
            .kickers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a processor's thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Run the guest.
    Run,
    /// Run it, and tell its clock that it stood still.
    RunAfterPause,
    /// End the thread.
    End,
}

impl MachineEvents for Control {
    fn power_off(&self) {
        self.end(Outcome::PoweredOff);
    }
    fn reset(&self) {
        self.end(Outcome::Reset);
    }
    fn panicked(&self) {
        self.end(Outcome::Panicked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_outcome_counts() {
        let control = Control::new(1).unwrap();
        control.end(Outcome::Panicked);
        control.end(Outcome::PoweredOff);
        assert!(matches!(control.take_outcome(), Some(Outcome::Panicked)));
        assert_eq!(control.gate(), Gate::End);
        assert_eq!(control.pause(), Err(ControlError::Ending));
        assert_eq!(control.ended().read().unwrap(), 2);
    }

    #[test]
    fn a_processor_that_does_not_stop_fails_the_pause_and_runs_on() {
        let control = Control::new(1).unwrap();
        assert_eq!(control.pause(), Err(ControlError::Busy));
        assert_eq!(control.state(), RunState::Running);
    }

    #[test]
    fn a_paused_processor_waits_for_resume() {
        let control = Control::new(1).unwrap();
        let other = control.clone();
        let thread = std::thread::spawn(move || {
            loop {
                match other.gate() {
                    Gate::Run => std::thread::yield_now(),
                    gate => return gate,
                }
            }
        });
        control.pause().unwrap();
        assert_eq!(control.state(), RunState::Paused);
        control.resume().unwrap();
        assert_eq!(thread.join().unwrap(), Gate::RunAfterPause);
    }
}
