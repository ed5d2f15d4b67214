//! Podman's own system tests, with husk and with runc: what passes with the one passes with the other (docs/engines.md).
//!
//! `cargo xtask test` fetches them; `tests/podman/suite.sh` runs them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What a file of the suite may take with one runtime, in seconds.
const LIMIT: &str = "3000";

/// A case for every run, which is quick and says much: signals come to a program, one by one. And the file where it is.
const QUICK: &str = "podman kill - test signal handling in containers";
const QUICK_FILE: &str = "130";

/// Cases that husk does not pass and runc does, each with its reason.
const EXCEPTIONS: &str = include_str!("../podman/exceptions.txt");

/// What one runtime made of the cases.
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    text: String,
}

/// Beside the test programs, where `xtask test` puts the suite.
fn suite() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program.parent().and_then(Path::parent);
    Ok(dir.context("no fixtures")?.join("podman/system"))
}

/// Runs those files' cases whose titles match `filter`.
#[expect(
    clippy::print_stderr,
    reason = "libtest keeps what is printed from its own lines, which are counted"
)]
fn run(runtime: &str, filter: &str, files: &[&str]) -> Result<Outcome> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("podman/suite.sh");
    let mut command = Command::new("timeout");
    command.args([LIMIT, "bash"]).arg(script).arg(suite()?);
    command.args([runtime, filter]).args(files);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run Podman's tests")?;
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        eprintln!("{runtime}: {line}");
        text = text + &line + "\n";
    }
    let status = child.wait()?;
    ensure!(status.success(), "{status}\n{text}");
    let titles = |prefix: &str| {
        let lines = text.lines().filter(|line| !line.contains("# skip"));
        let titles = lines.filter_map(|line| line.strip_prefix(prefix)?.split_once(' '));
        titles.map(|(_, title)| title.to_owned()).collect()
    };
    Ok(Outcome {
        passed: titles("ok "),
        failed: titles("not ok "),
        text,
    })
}

/// A pattern of these titles. No two titles differ in punctuation alone.
fn only<'a>(titles: impl Iterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    let patterns: Vec<_> = titles
        .map(|title| title.replace(|c: char| !plain(c), "."))
        .collect();
    format!("^({})$", patterns.join("|"))
}

fn exceptions() -> BTreeSet<&'static str> {
    let lines = EXCEPTIONS.lines();
    let titles = lines.filter(|line| !line.starts_with('#') && !line.starts_with(' '));
    titles.filter(|line| !line.is_empty()).collect()
}

/// Runs a file with husk, and what fails of it with runc, which must fail there too.
fn as_with_runc(file: &str) -> Result<()> {
    let husk = run("husk", "", &[file])?;
    ensure!(!husk.passed.is_empty(), "{}", husk.text);
    let exceptions = exceptions();
    let stale = |case: &&String| exceptions.contains(case.as_str());
    let stale: Vec<_> = husk.passed.iter().filter(stale).collect();
    ensure!(stale.is_empty(), "they pass and are listed: {stale:#?}");
    if husk.failed.is_empty() {
        return Ok(());
    }
    let failed = only(husk.failed.iter().map(String::as_str));
    let runc = run("runc", &failed, &[file])?;
    let unlisted = |case: &&String| !exceptions.contains(case.as_str());
    let surprises: Vec<_> = runc.passed.iter().filter(unlisted).collect();
    ensure!(
        surprises.is_empty(),
        "runc passes and husk does not: {surprises:#?}\n{}",
        husk.text
    );
    Ok(())
}

#[test]
fn one_of_podmans_tests_passes() -> Result<()> {
    let outcome = run("husk", &only([QUICK].into_iter()), &[QUICK_FILE])?;
    ensure!(outcome.passed.contains(QUICK), "{}", outcome.text);
    Ok(())
}

/// A test of each file of the suite that concerns the runtime.
macro_rules! files {
    ($($test:ident: $file:literal;)*) => {$(
        #[test]
        #[ignore = "takes minutes"]
        fn $test() -> Result<()> {
            as_with_runc($file)
        }
    )*};
}

files! {
    podmans_tests_of_run: "030";
    podmans_tests_of_logs: "035";
    podmans_tests_of_start: "045";
    podmans_tests_of_stop: "050";
    podmans_tests_of_rm: "055";
    podmans_tests_of_cp: "065";
    podmans_tests_of_exec: "075";
    podmans_tests_of_pause: "080";
    podmans_tests_of_kill: "130";
    podmans_tests_of_volumes: "160";
    podmans_tests_of_terminals: "450";
}
