//! What a finished command printed, and how long to wait for it.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest that any command of a test may take. The testbed is slow: a sandbox starts in 2 to 5 seconds.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A finished command.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// The exit code.
    ///
    /// # Panics
    /// If a signal ended the command.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Standard output, of a command that must have succeeded.
    ///
    /// # Panics
    /// If it failed.
    pub fn ok(&self) -> &str {
        assert!(self.status.success(), "failed: {self:?}");
        self.stdout.trim_end()
    }

    /// Standard error of a command that must have failed with `code` and one line of error.
    ///
    /// # Panics
    /// If it ended otherwise or printed more.
    pub fn fails_with(&self, code: i32) -> &str {
        assert_eq!(self.code(), code, "{self:?}");
        assert_eq!(
            self.stderr.trim_end().lines().count(),
            1,
            "not one line: {self:?}"
        );
        self.stderr.trim_end()
    }
}

/// Runs a script of the shell to its end.
pub fn shell(script: &str) -> Result<Output> {
    run(Command::new("sh").args(["-c", script]), b"")
}

/// Runs a command to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    run_within(command, input, LIMIT)
}

/// The same, with another limit of time than [`LIMIT`].
pub fn run_within(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stdout = collect(child.stdout.take().context("no stdout")?);
    let stderr = collect(child.stderr.take().context("no stderr")?);
    let mut stdin = child.stdin.take().context("no stdin")?;
    let status = thread::scope(|scope| {
        // A program may end without reading its input: a broken pipe is no failure of the test.
        scope.spawn(move || stdin.write_all(input).err());
        wait(&mut child, limit)
    })?;
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Output {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            bytes.extend_from_slice(format!("<{error}>").as_bytes());
        }
        bytes
    })
}

/// Waits for a child; kills it and fails once `limit` has passed.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    bail!("not finished after {limit:?}")
}

/// Asks `done` every 20 ms until it says yes; fails once `limit` has passed.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if done() {
            return Ok(start.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what}: not within {limit:?}")
}
