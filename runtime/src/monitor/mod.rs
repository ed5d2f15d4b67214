//! The monitor of one process in a guest: what engines take for the process itself. It moves the standard streams,
//! relays signals and window sizes, and ends with the process's exit code.
//!
//! ```text
//!            signalfd ──► relay ──► agent (Signal, Resize)
//!  stdin, stdout, stderr ◄─ flows ─► streams to the guest
//!   agent's answer to Wait ──► exit code        machine's pidfd ──► 137
//! ```
//!
//! One thread, one poll loop: a monitor lives as long as its process, and there is one for each.

mod detach;
mod flow;
mod signals;
mod stdio;
mod terminal;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use protocol::rpc::{ExitStatus, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use detach::{DetachError, Forked, Report, fork};
pub(crate) use signals::Signals;
pub(crate) use stdio::{Mode, StdioError, StdioStreams};

use crate::agent_client::AgentClient;
use crate::state::Exit;

/// Exit code when the machine ends before the process, as if SIGKILL had ended it.
const MACHINE_DIED: u8 = 137;

/// How long output may keep silent after the process's end before it is taken to be complete: a child that the
/// process left behind may hold its output open for ever.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// How long what a dead machine had said may take to be delivered.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_millis(500);

/// A process in a guest, by name.
#[derive(Debug, Clone)]
pub(crate) struct ProcessName {
    /// The container.
    pub(crate) id: String,
    /// The further process in it; its first if absent.
    pub(crate) exec: Option<String>,
}

/// Everything that serves one process.
#[derive(Debug)]
pub(crate) struct Monitor {
    process: ProcessName,
    /// A connection on which `Wait` has been called.
    wait: AgentClient,
    streams: StdioStreams,
    signals: Signals,
}

impl Monitor {
    /// Asks for the process's end on `wait`, a connection of its own.
    pub(crate) fn new(
        process: ProcessName,
        mut wait: AgentClient,
        streams: StdioStreams,
        signals: Signals,
    ) -> Result<Self, crate::agent_client::AgentError> {
        let (id, exec) = (process.id.clone(), process.exec.clone());
        wait.send(&Request::Wait { id, exec })?;
        Ok(Self {
            process,
            wait,
            streams,
            signals,
        })
    }

    /// Serves the process until it ends. `machine` is readable once its machine has ended; `agent` takes the calls.
    pub(crate) fn serve(&mut self, machine: BorrowedFd<'_>, agent: &mut AgentClient) -> Exit {
        let died = Exit {
            code: MACHINE_DIED,
            machine_died: true,
            oom_killed: false,
        };
        loop {
            let fixed = [self.signals.as_fd(), self.wait.as_fd(), machine];
            let ready = poll_with(&fixed, &self.streams.flows, None);
            let &[signalled, ended, machine_ended, ..] = ready.as_slice() else {
                continue;
            };
            if signalled {
                self.relay(agent);
            }
            self.advance(&ready[fixed.len()..]);
            if ended {
                // Also readable when the connection broke: then there is no answer.
                return self.wait.exited().map_or(died, exit_of);
            }
            if machine_ended {
                return died;
            }
        }
    }

    /// Delivers what the process had said when it ended.
    pub(crate) fn drain(&mut self, exit: Exit) {
        let end = exit
            .machine_died
            .then(|| Instant::now() + LAST_OUTPUT_LIMIT);
        self.streams.flows.retain(|flow| flow.is_output());
        while !self.streams.flows.is_empty() {
            let held_up = self.streams.flows.iter().any(flow::Flow::waits_for_host);
            let limit = match end {
                Some(end) => Some(end.saturating_duration_since(Instant::now())),
                // A reader may take its time: what it has not read is not lost.
                None if held_up => None,
                None => Some(SILENCE_LIMIT),
            };
            let ready = poll_with(&[], &self.streams.flows, limit);
            if !ready.contains(&true) && limit.is_some() {
                return;
            }
            self.advance(&ready);
        }
    }

    fn advance(&mut self, ready: &[bool]) {
        for (flow, ready) in self.streams.flows.iter_mut().zip(ready) {
            if *ready {
                flow.advance();
            }
        }
        self.streams.flows.retain(|flow| !flow.is_finished());
    }

    /// Passes on what has been sent to this process. A process that has just ended takes no signal: its exit follows.
    fn relay(&self, agent: &mut AgentClient) {
        while let Some(signal) = self.signals.next() {
            let ProcessName { id, exec } = self.process.clone();
            let request = match (signal, &self.streams.terminal) {
                (libc::SIGWINCH, Some(terminal)) => match terminal.size() {
                    Some(size) => Request::Resize { id, exec, size },
                    None => continue,
                },
                (libc::SIGWINCH, None) => continue,
                _ => Request::Signal {
                    id,
                    exec,
                    signal,
                    all: false,
                },
            };
            drop(agent.done(&request));
        }
    }
}

fn exit_of((status, oom_killed): (ExitStatus, bool)) -> Exit {
    Exit {
        code: status.code(),
        machine_died: false,
        oom_killed,
    }
}

/// Which of the descriptors, and after them which of the flows, can go on.
fn poll_with(fixed: &[BorrowedFd<'_>], flows: &[flow::Flow], limit: Option<Duration>) -> Vec<bool> {
    let mut fds: Vec<_> = fixed
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    fds.extend(flows.iter().map(|flow| {
        let (fd, interest) = flow.interest();
        PollFd::from_borrowed_fd(fd, interest)
    }));
    let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // Interrupted is as good as nothing ready; the other failures cannot happen to descriptors that are open.
    let _outcome = poll(&mut fds, timeout.as_ref());
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}
