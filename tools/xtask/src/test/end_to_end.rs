//! The end-to-end tests: compiled here, run where husk can run, all in one boot of L1.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::tally::Tally;
use super::{Test, crun, suites};
use crate::build;
use crate::progress::Step;
use crate::run::{Place, place};
use crate::testbed::{self, Testbed};
use crate::{command, paths};

/// Runs each test program; its output goes to the user, and to a file for the count.
const RUNNER: &str = include_str!("end_to_end.sh");
/// L1's memory: some tests run several machines at a time.
const MEMORY_MIB: u32 = 4096;
/// What the tests need beside husk, where they look for it.
const FIXTURES: &str = "target/husk-tests";

/// Builds everything, runs the tests and counts.
pub(super) fn run(test: &Test, tally: &mut Tally) -> Result<()> {
    build::run(&test.build)?;
    let dir = paths::workspace().join(FIXTURES);
    let _lock = lock(&dir)?;
    prepare(&dir)?;
    if test.all {
        suites::install(&dir.join("tools"))?;
    }
    let crun = crun::install(&dir.join("crun"));
    if let Err(error) = &crun {
        println!("not run: crun's tests: {error:#}");
    }
    let results = dir.join("results");
    let mut arguments = vec!["sh".to_owned(), dir.join("run.sh").display().to_string()];
    // One at a time: the check for leaks looks at the whole machine.
    arguments.push("--test-threads=1".to_owned());
    arguments.extend(test.all.then(|| "--include-ignored".to_owned()));
    if crun.is_err() {
        arguments.extend(["--skip", "cruns_tests"].map(str::to_owned));
    }
    arguments.extend(test.filter.clone());
    let status = match place(test.testbed) {
        Place::Here => here(&arguments)?,
        Place::Testbed => testbed::run(&Testbed {
            shares: vec![dir.clone(), paths::workspace().join("tests")],
            memory: MEMORY_MIB,
            command: arguments,
            ..Testbed::default()
        })?,
    };
    let before = tally.failed();
    let text = fs::read(&results).with_context(|| format!("cannot read {}", results.display()))?;
    String::from_utf8_lossy(&text)
        .lines()
        .for_each(|line| tally.count(line));
    ensure!(
        status == 0 || tally.failed() > before,
        "they ended with status {status}; see above"
    );
    Ok(())
}

/// Holds the directory against another run, which would empty it under a testbed that uses it.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        let step = Step::start("waiting for another run of the end-to-end tests");
        file.lock().context("cannot lock the end-to-end tests")?;
        step.done("");
    }
    Ok(file)
}

/// Puts the test programs and their runner into an empty directory.
fn prepare(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let programs = dir.join("programs");
    fs::create_dir_all(&programs)?;
    fs::write(dir.join("run.sh"), RUNNER)?;
    for (name, program) in compile()? {
        fs::copy(&program, programs.join(name))
            .with_context(|| format!("cannot copy {}", program.display()))?;
    }
    build::static_program("hostile-guest", "hostile-guest", &dir.join("hostile-guest"))
}

/// Compiles the tests: their names and programs.
fn compile() -> Result<Vec<(String, PathBuf)>> {
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
            programs.push((name.to_owned(), PathBuf::from(file)));
        }
    }
    if programs.is_empty() {
        bail!("crate tests has no tests");
    }
    Ok(programs)
}

/// Runs the tests on this machine. They expect husk's kernel where it is installed, so it is, for them alone.
fn here(arguments: &[String]) -> Result<i32> {
    const INSTALL: &str = r#"mkdir -p /usr/local/share/husk && mount --bind "$1" /usr/local/share/husk && shift && exec "$@""#;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(paths::prefix().join("bin")).chain(std::env::split_paths(&path));
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--", "sh", "-c", INSTALL, "sh"])
        .arg(paths::prefix().join("share/husk"));
    let status = unshare
        .args(arguments)
        .env("PATH", std::env::join_paths(dirs)?)
        .status();
    Ok(command::code(status.context("cannot run unshare")?))
}
