//! The programs of the end-to-end tests: what is compiled, and what each of them would run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{command, paths};

/// One of the files in `tests/tests/`, compiled.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

impl Program {
    /// How many tests it runs with these arguments.
    pub(super) fn tests(&self, arguments: &[String]) -> Result<usize> {
        let count = |extra: &[&str]| {
            let mut list = Command::new(&self.file);
            list.args(["--list", "--format", "terse"]).args(extra);
            let out = command::output(list.args(arguments))?;
            anyhow::Ok(out.lines().filter(|line| line.ends_with(": test")).count())
        };
        // The list has what is ignored, too, and so may be more than what runs.
        let all = count(&[])?;
        if arguments.iter().any(|argument| argument == INCLUDE_IGNORED) {
            return Ok(all);
        }
        Ok(all.saturating_sub(count(&["--ignored"])?))
    }
}

/// The argument of a test program that makes it run what takes long.
pub(super) const INCLUDE_IGNORED: &str = "--include-ignored";

/// Compiles the tests.
pub(super) fn compile() -> Result<Vec<Program>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--locked",
        "--no-run",
        "--package",
        "tests",
        "--message-format",
        "json-render-diagnostics",
    ]);
    cargo
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let out = cargo.output().context("cannot run cargo")?;
    ensure!(out.status.success(), "the tests do not compile; see above");
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("cargo wrote no JSON")?;
        if let (Some(file), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) && message["profile"]["test"] == true
        {
            programs.push(Program {
                name: name.to_owned(),
                file: PathBuf::from(file),
            });
        }
    }
    programs.sort_by(|left, right| left.name.cmp(&right.name));
    if programs.is_empty() {
        bail!("crate tests has no tests");
    }
    Ok(programs)
}
