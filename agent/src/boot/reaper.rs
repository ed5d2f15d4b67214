//! Reaps every process of the guest and hands each awaited exit status to who waits for it.
//!
//! Processes of containers are made by a helper, which tells their pids only after they exist: a short-lived one may
//! end before anyone knows it. So while a helper is at work ([`Reaper::launching`]) statuses of unknown processes are
//! kept, and [`Reaper::watch`] finds them.
//!
//! PID 1 blocks in `wait` here. When it has no child, there is no process left in the guest whose parent it could
//! become, and it sleeps until the next helper is started.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};

use protocol::rpc::ExitStatus;
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::locked;

/// The end of one process, and of its output.
#[derive(Debug)]
pub(crate) struct Exit {
    state: Mutex<ExitState>,
    changed: Condvar,
    /// Readable from the moment the process has ended.
    ended: OwnedFd,
}

#[derive(Debug, Default)]
struct ExitState {
    status: Option<ExitStatus>,
    /// Output streams not yet copied to their end.
    outputs: usize,
}

impl Exit {
    /// Of a process that runs.
    pub(crate) fn new() -> Result<Arc<Self>, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: rustix::event::eventfd(0, flags)?,
        }))
    }

    /// The status, if it has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        locked(&self.state).status
    }

    /// A descriptor that is readable once it has ended; not to be read.
    pub(crate) fn ended(&self) -> &OwnedFd {
        &self.ended
    }

    /// Waits for the end of the process and of its output.
    pub(crate) fn wait(&self) -> ExitStatus {
        let mut state = locked(&self.state);
        loop {
            if let (Some(status), 0) = (state.status, state.outputs) {
                return status;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Announces an output stream, which `wait` then waits for until it is dropped.
    pub(crate) fn output(self: &Arc<Self>) -> Output {
        locked(&self.state).outputs += 1;
        Output(Arc::clone(self))
    }

    /// Records how the process ended.
    pub(crate) fn end(&self, status: ExitStatus) {
        locked(&self.state).status = Some(status);
        // A fresh eventfd takes one count without blocking.
        rustix::io::write(&self.ended, &1_u64.to_ne_bytes()).ok();
        self.changed.notify_all();
    }
}

/// An output stream that is still being copied.
#[derive(Debug)]
pub(crate) struct Output(Arc<Exit>);

impl Output {
    /// The process it belongs to.
    pub(crate) fn exit(&self) -> &Exit {
        &self.0
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        locked(&self.0.state).outputs -= 1;
        self.0.changed.notify_all();
    }
}

/// A process being watched: its pid stays its own until the reaper has recorded its end.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Pid in the guest's first pid namespace.
    pub(crate) pid: i32,
    /// Its end.
    pub(crate) exit: Arc<Exit>,
    /// `None` if it had ended already.
    handle: Option<OwnedFd>,
}

impl Watched {
    /// Sends a signal; `ESRCH` if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.handle {
            Some(handle) if self.exit.status().is_none() => {
                rustix::process::pidfd_send_signal(handle, signal)
            }
            _ => Err(Errno::SRCH),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
    started: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Helpers at work.
    launching: usize,
    /// Helpers ever started.
    launched: u64,
    watched: HashMap<i32, Arc<Exit>>,
    /// Ended while a helper was at work, and not watched.
    unclaimed: HashMap<i32, ExitStatus>,
}

/// A helper is at work for as long as this lives.
#[derive(Debug)]
pub(crate) struct Launching<'a>(&'a Reaper);

impl Launching<'_> {
    /// Wakes the reaper: the helper has been spawned.
    pub(crate) fn spawned(&self) {
        locked(&self.0.state).launched += 1;
        self.0.started.notify_all();
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.launching -= 1;
        if state.launching == 0 {
            state.unclaimed.clear();
        }
    }
}

impl Reaper {
    /// To be called before a helper is spawned.
    pub(crate) fn launching(&self) -> Launching<'_> {
        locked(&self.state).launching += 1;
        Launching(self)
    }

    /// Watches a process that a helper made, while that helper's [`Launching`] lives.
    pub(crate) fn watch(&self, pid: i32) -> Result<Watched, Errno> {
        let exit = Exit::new()?;
        let mut state = locked(&self.state);
        let handle = if let Some(status) = state.unclaimed.remove(&pid) {
            exit.end(status);
            None
        } else {
            state.watched.insert(pid, Arc::clone(&exit));
            Pid::from_raw(pid)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
        };
        Ok(Watched { pid, exit, handle })
    }

    /// Reaps for ever.
    pub(crate) fn run(&self) -> ! {
        loop {
            let launched = locked(&self.state).launched;
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => self.reaped(pid.as_raw_nonzero().get(), status),
                Ok(None) | Err(Errno::INTR) => {}
                Err(_) => self.sleep(launched),
            }
        }
    }

    fn reaped(&self, pid: i32, status: WaitStatus) {
        let Some(status) = exit_status(status) else {
            return;
        };
        let mut state = locked(&self.state);
        if let Some(exit) = state.watched.remove(&pid) {
            exit.end(status);
        } else if state.launching > 0 {
            state.unclaimed.insert(pid, status);
        }
    }

    /// Until another helper than the first `launched` has been started.
    fn sleep(&self, launched: u64) {
        let mut state = locked(&self.state);
        while state.launched == launched {
            state = self
                .started
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// `None` for a process that only stopped or went on.
fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let byte = |value: i32| u8::try_from(value & 0xff).ok();
    if let Some(code) = status.exit_status() {
        return byte(code).map(ExitStatus::Code);
    }
    status
        .terminating_signal()
        .and_then(byte)
        .map(ExitStatus::Signal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_that_ends_before_it_is_watched_keeps_its_status() {
        let reaper = Reaper::default();
        let launching = reaper.launching();
        locked(&reaper.state)
            .unclaimed
            .insert(7, ExitStatus::Code(3));
        let watched = reaper.watch(7).unwrap();
        assert_eq!(watched.exit.status(), Some(ExitStatus::Code(3)));
        assert_eq!(watched.signal(Signal::TERM), Err(Errno::SRCH));
        drop(launching);
    }

    #[test]
    fn statuses_nobody_claims_are_dropped_with_the_last_helper() {
        let reaper = Reaper::default();
        let first = reaper.launching();
        let second = reaper.launching();
        locked(&reaper.state)
            .unclaimed
            .insert(7, ExitStatus::Code(3));
        drop(first);
        assert_eq!(locked(&reaper.state).unclaimed.len(), 1);
        drop(second);
        assert!(locked(&reaper.state).unclaimed.is_empty());
    }

    #[test]
    fn waiting_lasts_until_the_output_is_copied() {
        let exit = Exit::new().unwrap();
        let output = exit.output();
        exit.end(ExitStatus::Signal(9));
        let waiter = std::thread::spawn({
            let exit = Arc::clone(&exit);
            move || exit.wait()
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(output);
        assert_eq!(waiter.join().unwrap(), ExitStatus::Signal(9));
    }
}
