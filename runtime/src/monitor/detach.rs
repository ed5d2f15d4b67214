//! Splits a command in two: the command, which reports and returns, and the monitor, which stays. The monitor is a
//! child of the command and not re-executed: it starts with everything the command has already checked and opened.
//! When the command ends, the engine (or init) becomes its parent and reaps it, as with runc's init.

#![expect(unsafe_code, reason = "fork; the process has a single thread")]

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};

/// Largest report, in bytes: one line of text.
const MAX_REPORT: u64 = 64 << 10;

/// Why there is no monitor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DetachError {
    /// The process cannot be split.
    #[error("cannot start a monitor")]
    Fork(#[source] io::Error),
    /// The monitor failed and has undone everything. The text is the whole chain of causes.
    #[error("{0}")]
    Failed(String),
    /// The monitor ended without a report.
    #[error("monitor died while it set up the container")]
    Died,
}

#[derive(Serialize, Deserialize)]
enum Outcome {
    Ready,
    Failed(String),
}

/// Which of the two a process is.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The command.
    Command(Waiting),
    /// The monitor.
    Monitor(Report),
}

/// The command's side.
#[derive(Debug)]
pub(crate) struct Waiting {
    monitor: Pid,
    pipe: File,
}

/// The monitor's side. Dropping it without a report tells the command that the monitor is gone.
#[derive(Debug)]
pub(crate) struct Report {
    pipe: File,
}

/// Splits this process.
pub(crate) fn fork() -> Result<Forked, DetachError> {
    let failed = |errno: rustix::io::Errno| DetachError::Fork(errno.into());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    // SAFETY: husk has a single thread, so the child has no lock held by a thread that does not exist in it.
    match unsafe { libc::fork() } {
        -1 => Err(DetachError::Fork(io::Error::last_os_error())),
        0 => {
            drop(reader);
            Ok(Forked::Monitor(Report {
                pipe: writer.into(),
            }))
        }
        pid => {
            let monitor = Pid::from_raw(pid).ok_or(DetachError::Died)?;
            Ok(Forked::Command(Waiting {
                monitor,
                pipe: reader.into(),
            }))
        }
    }
}

impl Waiting {
    /// The monitor's process id, once it serves.
    pub(crate) fn ready(mut self) -> Result<i32, DetachError> {
        let mut report = Vec::new();
        let read = (&mut self.pipe).take(MAX_REPORT).read_to_end(&mut report);
        let outcome = read.ok().and_then(|_| serde_json::from_slice(&report).ok());
        if let Some(Outcome::Ready) = outcome {
            return Ok(self.monitor.as_raw_nonzero().get());
        }
        // It has undone what it did once it has ended. Nothing to be done if somebody else reaps it.
        let _outcome = waitpid(Some(self.monitor), WaitOptions::empty());
        match outcome {
            Some(Outcome::Failed(text)) => Err(DetachError::Failed(text)),
            _ => Err(DetachError::Died),
        }
    }
}

impl Report {
    /// Lets go of what the monitor has from the engine by being its child.
    pub(crate) fn leave_engine(&self) -> Result<(), DetachError> {
        let failed = |errno: rustix::io::Errno| DetachError::Fork(errno.into());
        // A session of its own: the engine's terminal must not signal it. A new child leads no group yet.
        setsid().map_err(failed)?;
        // The bundle can be unmounted while the container runs.
        rustix::process::chdir("/").map_err(failed)
    }

    /// Tells the command that the process is served, and lets go of its standard streams. Fails if the command is gone:
    /// then nobody has taken the container over.
    pub(crate) fn ready(self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        self.send(&Outcome::Ready)
    }

    /// Tells the command why not.
    pub(crate) fn failed(self, text: String) {
        // Without a command there is nobody to tell.
        drop(self.send(&Outcome::Failed(text)));
    }

    fn send(mut self, outcome: &Outcome) -> io::Result<()> {
        self.pipe.write_all(&serde_json::to_vec(outcome)?)
    }
}
