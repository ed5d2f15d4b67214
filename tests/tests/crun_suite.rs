//! crun's own tests, with runc and with husk: what passes with the one passes with the other (docs/crun-suite.md).
//!
//! `cargo xtask test` fetches them; `tests/crun/run.py` runs them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::leaks::watched;
use tests::output;

/// Where `cargo xtask test` puts them.
const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/husk-tests/crun");

/// What runs them.
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crun/run.py");

/// All of them, one after the other, in a slow testbed.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Fewest that must pass with husk.
const PASSES: usize = 70;

/// Cases that runc passes and husk does not, each with its reason in docs/crun-suite.md.
const EXCEPTIONS: &[&str] = &[
    "devices/mknod-device",
    "exec/exec-root-netns-with-userns",
    "mounts/mount-ro-cgroup",
    "pid/pid",
    "resources/resources-unified-exec-cgroup",
];

/// One case of each kind, all quick.
const SUBSET: &[&str] = &[
    "capabilities/some-caps-ambient",
    "capabilities/some-caps-inheritable",
    "cwd/cwd",
    "devices/allow-device",
    "devices/deny-devices",
    "exec/exec-add-capability",
    "hooks/test-hook-env-inherit",
    "hostname/hostname",
    "limits/limit-pid-0",
    "limits/limit-pid-n",
    "mounts/mount-ro",
    "mounts/mount-symlink-not-existing",
    "mounts/mount-sync",
];

#[test]
fn a_few_of_cruns_tests_pass() -> Result<()> {
    watched(|| {
        let found = run("husk", SUBSET)?;
        ensure!(found.passed.len() == SUBSET.len(), "{}", found.text);
        Ok(())
    })
}

#[test]
#[ignore = "takes minutes"]
fn husk_passes_all_of_cruns_tests_that_runc_passes() -> Result<()> {
    watched(|| {
        let [runc, husk] = [run("runc", &[])?, run("husk", &[])?];
        println!(
            "crun's tests: runc {}, husk {}",
            runc.passed.len(),
            husk.passed.len()
        );
        let missing: Vec<_> = runc
            .passed
            .iter()
            .filter(|case| !husk.passed.contains(case) && !EXCEPTIONS.contains(&case.as_str()))
            .collect();
        ensure!(
            missing.is_empty() && husk.passed.len() >= PASSES,
            "runc passes and husk does not: {missing:?}\n{}",
            husk.text
        );
        Ok(())
    })
}

/// What came of it.
struct Results {
    passed: Vec<String>,
    /// All that was printed.
    text: String,
}

fn run(runtime: &str, cases: &[&str]) -> Result<Results> {
    let mut python = Command::new("python3");
    python.args([RUNNER, SUITE, runtime]).args(cases);
    let said = output::run_within(&mut python, b"", LIMIT)?;
    ensure!(said.status.success(), "{said:?}");
    let lines = said.stdout.lines();
    let passed = lines.filter_map(|line| line.strip_suffix(" ok"));
    let passed = passed.filter(|case| !case.starts_with(' '));
    Ok(Results {
        passed: passed.map(str::to_owned).collect(),
        text: said.stdout,
    })
}
