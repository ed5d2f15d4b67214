//! The end-to-end tests: compiled here, run where husk can run; in the testbed each program in an L1 of its own, so that one
//! that takes L1 down takes no other with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::programs::{self, INCLUDE_IGNORED, Program};
use super::tally::Tally;
use super::{Test, crun, podman, server, suites};
use crate::build;
use crate::progress::Step;
use crate::run::{Place, place};
use crate::testbed::{self, End, Testbed};
use crate::{command, paths};

/// Runs a test program; its output goes to the user, and to a file for the count.
const RUNNER: &str = include_str!("end_to_end.sh");
/// L1's memory: some tests run several machines at a time.
const MEMORY_MIB: u32 = 4096;
/// What the tests need beside husk, where they look for it.
const FIXTURES: &str = "target/husk-tests";
/// Longest that one program may take; they are written to take three minutes on an idle machine.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// The same, with the tests that take long.
const LONG_LIMIT: Duration = Duration::from_secs(75 * 60);
/// What L1 gets beside that, to boot and to end.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// What husk-vmm says when its guest could not go on.
const TRIPLE_FAULT: &str = "the guest stopped with a triple fault";
/// What a test program exits with when a test has failed.
const TESTS_FAILED: i32 = 101;

/// Builds everything, runs the tests and counts.
pub(super) fn run(test: &Test, tally: &mut Tally) -> Result<()> {
    build::run(&test.build)?;
    let dir = paths::workspace().join(FIXTURES);
    let _lock = lock(&dir)?;
    let programs = prepare(&dir)?;
    if test.all {
        suites::install(&dir.join("tools"))?;
    }
    // One at a time: the check for leaks looks at the whole machine.
    let mut arguments = vec!["--test-threads=1".to_owned()];
    arguments.extend(test.all.then(|| INCLUDE_IGNORED.to_owned()));
    for (tests, installed) in [
        ("cruns_tests", crun::install(&dir.join("crun"))),
        ("podmans_tests", podman::install(&dir.join("podman"))),
        ("real_server", server::install(&dir)),
    ] {
        if let Err(error) = installed {
            println!("not run: {tests}: {error:#}");
            arguments.extend(["--skip", tests].map(str::to_owned));
        }
    }
    arguments.extend(test.filter.clone());
    let suite = Suite {
        place: place(test.testbed),
        limit: if test.all { LONG_LIMIT } else { LIMIT },
        dir,
        arguments,
    };
    for program in &programs {
        if program.tests(&suite.arguments)? > 0 {
            suite.run(program, tally)?;
        }
    }
    Ok(())
}

/// How and where all programs are run.
struct Suite {
    place: Place,
    limit: Duration,
    dir: PathBuf,
    arguments: Vec<String>,
}

impl Suite {
    /// Runs one program and counts its tests. It fails as a whole if it did not come to its end.
    fn run(&self, program: &Program, tally: &mut Tally) -> Result<()> {
        println!("--- end-to-end: {}", program.name);
        let mut end = self.start(program);
        if let Some(what) = self.emulators_fault(program, &end)? {
            println!("\n--- end-to-end: {} once more, since {what}", program.name);
            tally.repeat(&program.name);
            end = self.start(program);
        }
        let failed = tally.failed();
        let ran = self.count(program, tally)?;
        let limit = self.limit.as_secs();
        let whole = match end {
            Ok(End::Exit(0)) if ran > 0 => return Ok(()),
            Ok(End::Exit(0)) => Err(anyhow!("it ran no test")),
            Ok(End::Exit(TESTS_FAILED)) if tally.failed() > failed => return Ok(()),
            Ok(End::Exit(124 | 137)) => {
                Err(anyhow!("it did not end within {limit} s, and was killed"))
            }
            Ok(End::Exit(status)) => Err(anyhow!("it ended with status {status}")),
            Ok(End::Crash(what) | End::Overdue(what)) => {
                // The runner was in the middle of a line.
                println!();
                Err(anyhow!(what))
            }
            Ok(End::Signal(signal)) => bail!("ended by signal {signal}"),
            Err(error) => Err(error),
        };
        tally.check(&format!("end-to-end: {}", program.name), whole);
        Ok(())
    }

    /// What the emulator can do to an L1 with several processors, if a program ended by it: docs/testbed.md.
    fn emulators_fault(&self, program: &Program, end: &Result<End>) -> Result<Option<String>> {
        Ok(match (end, self.place) {
            (Ok(End::Crash(what)), _) => Some(what.clone()),
            (Ok(End::Exit(TESTS_FAILED)), Place::Testbed) => self
                .said(program)?
                .contains(TRIPLE_FAULT)
                .then(|| TRIPLE_FAULT.to_owned()),
            _ => None,
        })
    }

    fn start(&self, program: &Program) -> Result<End> {
        match self.place {
            Place::Here => self.here(&program.name),
            Place::Testbed => self.in_testbed(&program.name),
        }
    }

    /// Counts what a program said; how many tests came to their end.
    fn count(&self, program: &Program, tally: &mut Tally) -> Result<usize> {
        let before = tally.counted();
        self.said(program)?
            .lines()
            .for_each(|line| tally.count(line));
        Ok(tally.counted() - before)
    }

    /// What a program said; nothing if it has not been started.
    fn said(&self, program: &Program) -> Result<String> {
        let results = self.dir.join("results").join(&program.name);
        match fs::read(&results) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", results.display())),
        }
    }

    /// The shell's command line for one program.
    fn command(&self, name: &str) -> Vec<String> {
        let runner = self.dir.join("run.sh").display().to_string();
        let limit = self.limit.as_secs().to_string();
        let mut words = vec!["sh".to_owned(), runner, limit, name.to_owned()];
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn in_testbed(&self, name: &str) -> Result<End> {
        testbed::run_to_any_end(&Testbed {
            shares: vec![self.dir.clone(), paths::workspace().join("tests")],
            memory: MEMORY_MIB,
            // The program's own limit ends a test that hangs, this one an L1 that does.
            limit: Some(self.limit + GRACE),
            command: self.command(name),
            ..Testbed::default()
        })
    }

    /// Runs a program on this machine. It expects husk's kernel where it is installed, so it is, for it alone.
    fn here(&self, name: &str) -> Result<End> {
        const INSTALL: &str = r#"mkdir -p /usr/local/share/husk && mount --bind "$1" /usr/local/share/husk && shift && exec "$@""#;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(paths::prefix().join("bin")).chain(std::env::split_paths(&path));
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--", "sh", "-c", INSTALL, "sh"])
            .arg(paths::prefix().join("share/husk"))
            .args(self.command(name))
            .env("PATH", std::env::join_paths(dirs)?);
        let status = unshare.status().context("cannot run unshare")?;
        Ok(End::Exit(command::code(status)))
    }
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
fn prepare(dir: &Path) -> Result<Vec<Program>> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let programs = dir.join("programs");
    fs::create_dir_all(&programs)?;
    fs::write(dir.join("run.sh"), RUNNER)?;
    fs::create_dir_all(dir.join("results"))?;
    let compiled = programs::compile()?;
    for Program { name, file } in &compiled {
        fs::copy(file, programs.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    build::static_program("hostile-guest", "hostile-guest", &dir.join("hostile-guest"))?;
    Ok(compiled)
}
