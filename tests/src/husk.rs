//! The `husk` command as its users type it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::output::{self, Output};

/// An id that no other container of this run has.
#[must_use]
pub fn unique_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "t{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// `husk ARGS`, run to its end.
pub fn husk(args: &[&str]) -> Result<Output> {
    output::run(Command::new("husk").args(args), b"")
}

/// `husk run` of a bundle, in the foreground, to its end.
pub fn run(bundle: &Bundle) -> Result<Output> {
    run_with_input(bundle, b"")
}

/// `husk run` of a bundle, with `input` on standard input.
pub fn run_with_input(bundle: &Bundle, input: &[u8]) -> Result<Output> {
    output::run(
        Command::new("husk")
            .args(["run", &unique_id()])
            .current_dir(bundle.path()),
        input,
    )
}

/// A `husk run` that is spoken with line by line; killed at the latest when it goes out of scope.
pub struct Conversation {
    run: Child,
    says: BufReader<ChildStdout>,
}

/// `husk run` of a bundle, in the foreground, left running.
pub fn spawn(bundle: &Bundle) -> Result<Conversation> {
    let mut husk = Command::new("husk");
    husk.args(["run", &unique_id()]).current_dir(bundle.path());
    husk.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = husk.spawn().context("cannot start husk run")?;
    let says = BufReader::new(run.stdout.take().context("no stdout")?);
    Ok(Conversation { run, says })
}

impl Conversation {
    /// Gives it a line.
    pub fn say(&mut self, line: &[u8]) -> Result<()> {
        let stdin = self.run.stdin.as_mut().context("no stdin")?;
        stdin.write_all(&[line, b"\n"].concat())?;
        Ok(())
    }

    /// Its next line, without the end of line; empty at its end.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        output::wait(&mut self.run, limit)
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _outcome = self.run.kill().and_then(|()| self.run.wait());
    }
}

/// Whether a process runs.
#[must_use]
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(Some('Z')))
}

/// Kills a process.
pub fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("no pid")?;
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::KILL,
    )?)
}

/// A container made by `husk create`; deleted by force at the latest when it goes out of scope.
pub struct Container<'bundle> {
    /// `exec` reads its config, as runc's does.
    bundle: &'bundle Bundle,
    id: String,
    monitor: i32,
}

impl<'bundle> Container<'bundle> {
    /// `husk create`.
    pub fn create(bundle: &'bundle Bundle) -> Result<Self> {
        let id = unique_id();
        let pid_file = bundle.path().join("pid");
        let mut create = Command::new("husk");
        create
            .args(["create", "--bundle"])
            .arg(bundle.path())
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&id);
        // The container inherits these: a pipe would stay open as long as it lives.
        create
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let status = output::wait(&mut create.spawn()?, output::LIMIT)?;
        anyhow::ensure!(status.success(), "husk create failed: {status}");
        let monitor = std::fs::read_to_string(&pid_file)?.trim().parse()?;
        Ok(Self {
            bundle,
            id,
            monitor,
        })
    }

    /// `husk create` and `husk start`.
    pub fn running(bundle: &'bundle Bundle) -> Result<Self> {
        let container = Self::create(bundle)?;
        let started = husk(&["start", &container.id])?;
        anyhow::ensure!(started.status.success(), "{started:?}");
        Ok(container)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        self.bundle
    }

    /// The pid that engines watch.
    #[must_use]
    pub fn monitor(&self) -> i32 {
        self.monitor
    }

    /// The process of its machine.
    pub fn vmm(&self) -> Result<i32> {
        let state = std::fs::read(format!("/run/husk/{}/state.json", self.id))?;
        let state: Value = serde_json::from_slice(&state)?;
        let pid = state["vmm"]["pid"].as_i64().context("no machine")?;
        Ok(pid.try_into()?)
    }

    /// `husk exec ID ARGS`, run to its end.
    pub fn exec(&self, args: &[&str]) -> Result<Output> {
        output::run(
            Command::new("husk").args(["exec", &self.id]).args(args),
            b"",
        )
    }

    /// `husk exec ID ARGS`, left running.
    pub fn spawn_exec(&self, args: &[&str]) -> Result<Child> {
        let mut exec = Command::new("husk");
        exec.args(["exec", &self.id]).args(args);
        exec.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start husk exec")
    }

    /// `husk VERB ID ARGS`.
    pub fn verb(&self, verb: &str, args: &[&str]) -> Result<Output> {
        output::run(Command::new("husk").args([verb, &self.id]).args(args), b"")
    }

    /// `husk state ID`, parsed.
    pub fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(self.verb("state", &[])?.ok())?)
    }

    /// The `status` of `husk state`.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"]
            .as_str()
            .context("no status")?
            .to_owned())
    }

    /// Waits until `husk state` says `status`; returns how long that took.
    pub fn wait_for(&self, status: &str, limit: Duration) -> Result<Duration> {
        let is = || self.status().is_ok_and(|now| now == status);
        output::until(&format!("{} becomes {status}", self.id), limit, is)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // What it says is of no interest: the leak check sees what it did not do.
        let _outcome = husk(&["delete", "--force", &self.id]);
    }
}
