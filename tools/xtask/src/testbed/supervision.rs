//! Waiting for the end of the job in L1, and noticing when it cannot come.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGPIPE;

use super::End;
use super::machine::{CONSOLE, LOG};
use super::streams::Event;
use crate::command;

/// How long L1 may take to boot; it takes 5 seconds on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How often to look whether QEMU is still there.
const POLL: Duration = Duration::from_millis(100);
/// The streams whose end is awaited: stdout and stderr.
const OUTPUTS: u32 = 2;
/// What Linux writes when it stops.
const PANIC: &str = "Kernel panic - not syncing";
/// What it writes before it says why.
const TROUBLE: &[&str] = &[
    PANIC,
    "BUG: ",
    "Oops: ",
    "int3: ",
    "general protection fault",
    "soft lockup",
];
/// As much of that as has the reason, the registers and the calls.
const TROUBLE_LINES: usize = 50;

/// How long L1 may take.
pub(super) struct Limits {
    /// In all.
    pub(super) whole: Option<Duration>,
    /// From one sign of life to the next.
    pub(super) silence: Option<Duration>,
}

/// What is known of a run.
pub(super) struct Supervision<'a> {
    dir: &'a Path,
    limits: Limits,
    started: Instant,
    heard: Instant,
    booted: bool,
    status: Option<i32>,
    outputs: u32,
}

impl<'a> Supervision<'a> {
    /// Of a machine that has just been started, with its files in `dir`.
    pub(super) fn new(dir: &'a Path, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            dir,
            limits,
            started: now,
            heard: now,
            booted: false,
            status: None,
            outputs: 0,
        }
    }

    /// Waits for the end.
    pub(super) fn run(mut self, events: &Receiver<Event>, machine: &mut Child) -> Result<End> {
        loop {
            match events.recv_timeout(POLL) {
                Ok(event) => {
                    self.heard = Instant::now();
                    if let Some(end) = self.event(event)? {
                        return Ok(end);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("testbed: all relays ended"),
            }
            if let Some(status) = self.status.filter(|_| self.outputs == OUTPUTS) {
                return Ok(End::Exit(status));
            }
            if let Some(how) = machine.try_wait()?
                && self.status.is_none()
            {
                return self.gone(how);
            }
            if let Some(end) = self.late()? {
                return Ok(end);
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<Option<End>> {
        match event {
            Event::Booted => self.booted = true,
            Event::Alive => {}
            Event::StreamDone => self.outputs += 1,
            Event::Exit(code) => self.status = Some(code),
            Event::Failed(what) => bail!("testbed: {what}\n{}", self.evidence()),
            Event::Signal(signal) => return Ok(Some(End::Signal(signal))),
            Event::OutputClosed(error) if error.kind() == ErrorKind::BrokenPipe => {
                return Ok(Some(End::Signal(SIGPIPE)));
            }
            Event::OutputClosed(error) => return Err(error).context("cannot write the output"),
        }
        Ok(None)
    }

    /// QEMU has ended.
    fn gone(&self, how: ExitStatus) -> Result<End> {
        if !self.booted {
            let evidence = self.evidence();
            bail!("testbed: L1 ended while booting (QEMU: {how})\n{evidence}");
        }
        let what = if self.console().contains(PANIC) {
            "L1's kernel panicked"
        } else {
            "L1 ended"
        };
        Ok(End::Crash(self.said(&format!(
            "{what} while the command ran (QEMU: {how})"
        ))))
    }

    /// Whether a limit has passed.
    fn late(&self) -> Result<Option<End>> {
        let passed = |since: Instant, limit: Option<Duration>| {
            limit.filter(|limit| since.elapsed() > *limit)
        };
        if !self.booted {
            if let Some(limit) = passed(self.started, Some(BOOT_LIMIT)) {
                let (limit, evidence) = (limit.as_secs(), self.evidence());
                bail!("testbed: L1 did not boot within {limit} s\n{evidence}");
            }
            return Ok(None);
        }
        if let Some(limit) = passed(self.heard, self.limits.silence) {
            let what = format!("L1 hangs: no sign of life for {} s", limit.as_secs());
            return Ok(Some(End::Crash(self.said(&what))));
        }
        let overdue = passed(self.started, self.limits.whole);
        Ok(overdue.map(|limit| {
            End::Overdue(self.said(&format!("L1 did not end within {} s", limit.as_secs())))
        }))
    }

    fn said(&self, what: &str) -> String {
        format!("{what}\n{}", self.evidence())
    }

    /// What L1's console and QEMU said of the end: from where L1's kernel met trouble, otherwise the last lines.
    fn evidence(&self) -> String {
        let console = self.console();
        let trouble = console
            .lines()
            .position(|line| TROUBLE.iter().any(|words| line.contains(words)));
        let console = match trouble {
            Some(first) => {
                let lines: Vec<&str> = console.lines().skip(first).take(TROUBLE_LINES).collect();
                lines.join("\n")
            }
            None => command::tail(&console),
        };
        // QEMU cannot emulate all of an EPYC, which is nothing that goes wrong.
        let said = read(&self.dir.join(LOG));
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains("TCG doesn't support"))
            .collect();
        let said = command::tail(&said.join("\n"));
        format!("--- console of L1 ---\n{console}\n--- QEMU ---\n{said}")
    }

    /// What L1's kernel said.
    fn console(&self) -> String {
        read(&self.dir.join(CONSOLE))
    }
}

fn read(path: &Path) -> String {
    // Before QEMU has started there is no such file.
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
