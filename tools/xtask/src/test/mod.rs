//! `cargo xtask test`: format, lints, unit tests, house rules, then the end-to-end tests where husk can run.
#![expect(
    clippy::print_stdout,
    reason = "the report is the result of this command"
)]

mod crun;
mod end_to_end;
mod podman;
mod programs;
mod server;
mod source;
mod suites;
mod tally;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;

use self::tally::Tally;
use crate::build::{self, Build};
use crate::packages::Tool;
use crate::{house, packages, paths};

/// What the unit tests run to hear a second opinion.
const JUDGES: &[Tool] = &[
    Tool::new("cpio", "cpio", "reads initrds"),
    Tool::new("lz4", "lz4", "reads initrds"),
    Tool::new("zstd", "zstd", "reads initrds"),
    Tool::new("e2fsck", "e2fsprogs", "reads ext4 images"),
    Tool::new("openssl", "openssl", "makes the certificates of registries"),
];

/// The same, but large: tests that find one missing say so and are content. Installed where that needs nobody's leave.
const LARGE_JUDGES: &[Tool] = &[
    Tool::new("veritysetup", "cryptsetup-bin", "reads trees of hashes"),
    Tool::new(
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "libfaketime",
        "sets a clock",
    ),
    Tool::new("umoci", "umoci", "unpacks images"),
    Tool::new("podman", "podman", "unpacks images"),
    Tool::new("skopeo", "skopeo", "fills a registry"),
    Tool::new("docker-registry", "docker-registry", "is a registry"),
    Tool::new(
        "mmdebstrap",
        "mmdebstrap",
        "makes a root file system of packages",
    ),
];

/// Format, lints, unit tests and house rules, then the end-to-end tests: on KVM where it is usable and fast, otherwise in the
/// testbed. The last line says how many passed and failed.
#[derive(Args)]
pub(crate) struct Test {
    /// Run the slow end-to-end tests (#[ignore]) too
    #[arg(long)]
    all: bool,
    /// Run the end-to-end tests in the testbed even if KVM is usable
    #[arg(long)]
    testbed: bool,
    /// Leave out the end-to-end tests, for which everything has to be built
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    build: Build,
    /// Run only the tests whose name contains this, and no lints
    filter: Option<String>,
}

/// Runs everything, whatever fails on the way, and prints the sum.
pub(crate) fn run(test: &Test) -> Result<i32> {
    let mut tally = Tally::default();
    packages::ensure_installed(build::TOOLS)?;
    packages::ensure_installed(JUDGES)?;
    if packages::is_root() && packages::find("apt-get").is_some() {
        packages::ensure_installed(LARGE_JUDGES)?;
    }
    if test.filter.is_none() {
        tally.check("cargo fmt --check", cargo(&["fmt", "--all", "--check"]));
        let clippy = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        tally.check("cargo clippy", cargo(&clippy));
        house::run(&mut |rule, result| tally.check(rule, result));
        if packages::find_with_cargo("cargo-deny").is_some() {
            tally.check("cargo deny check", cargo(&["deny", "check"]));
        } else {
            println!("not run: cargo deny check (cargo install cargo-deny)");
        }
    }
    unit_tests(test, &mut tally)?;
    if !test.quick {
        match end_to_end::run(test, &mut tally) {
            Ok(()) => {}
            Err(error) => tally.check("end-to-end tests", Err(error)),
        }
    }
    print!("{tally}");
    Ok(i32::from(!tally.is_good()))
}

/// Checks the house rules alone.
pub(crate) fn house() -> i32 {
    let mut tally = Tally::default();
    house::run(&mut |rule, result| tally.check(rule, result));
    print!("{tally}");
    i32::from(!tally.is_good())
}

fn unit_tests(test: &Test, tally: &mut Tally) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--locked",
        "--workspace",
        "--exclude",
        "tests",
        "--no-fail-fast",
        "--",
    ]);
    cargo
        .args(&test.filter)
        .current_dir(paths::workspace())
        .stdin(Stdio::null());
    let before = tally.failed();
    let status = stream(&mut cargo, tally)?;
    if !status && tally.failed() == before {
        tally.check(
            "cargo test",
            Err(anyhow::anyhow!(
                "it failed and names no failed test; see above"
            )),
        );
    }
    Ok(())
}

/// Passes the output of a test run on, counting; true if it succeeded.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            tally.count(&line);
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    Ok(child.wait()?.success())
}

/// Runs cargo with its output on the terminal.
fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "it failed; see above");
    Ok(())
}
