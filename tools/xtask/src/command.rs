//! Running other programs: their output is kept, and shown when they fail.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Step;

/// As much of a failed program's output as helps and still fits a screen.
const TAIL_LINES: usize = 25;

/// Runs a program to its end and returns its stdout; an error has the end of its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!(
            "{name} failed ({})\n{}",
            out.status,
            tail(&format!("{stdout}{stderr}"))
        );
    }
    Ok(stdout)
}

/// Runs a program whose output goes to a log file, its latest line to the step.
pub(crate) fn logged(command: &mut Command, log: &Path, step: &Step) -> Result<()> {
    logged_each(command, log, |line| step.doing(line.trim()))
}

/// Runs a program whose output goes to a log file, and every line of it to `each`.
pub(crate) fn logged_each(
    command: &mut Command,
    log: &Path,
    mut each: impl FnMut(&str),
) -> Result<()> {
    let name = name(command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let second = writer.try_clone().context("cannot copy a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(second);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    // The command holds the writing ends; without this the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        each(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        bail!(
            "{name} failed ({status}); the end of {}:\n{}",
            log.display(),
            tail(&text)
        );
    }
    Ok(())
}

/// A program's exit status as a shell would have it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
