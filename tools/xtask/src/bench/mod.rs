//! `cargo xtask bench`: husk's VMM against QEMU's microvm, same kernel and initrd, in one boot of L1 that counts instructions.
//!
//! This program runs twice: on the host it builds, starts L1 and draws the report; in L1 (`inside`) it measures.

mod inside;
mod memory;
mod peers;
mod plot;
mod report;
mod starts;
mod vmm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

pub(crate) use self::inside::{Inside, run as run_inside};
use crate::build::{self, Build};
use crate::progress::Step;
use crate::testbed::{self, Testbed};
use crate::{command, paths};

/// The guest of the benchmark.
const GUEST: &str = include_str!("guest.c");

/// Measure husk's VMM against QEMU's microvm in the testbed, counting instructions: to the guest's first line, CPU, memory, KVM
/// exits and system calls. Writes a table and a plot to target/bench.
#[derive(Args)]
pub(crate) struct Bench {
    /// Measured runs of each, after one that warms the caches
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Keep the result in docs/bench, under the commit it was measured at
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    build: Build,
}

/// Builds, measures and reports.
pub(crate) fn run(bench: &Bench) -> Result<i32> {
    build::run(&bench.build)?;
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    guest(&dir)?;
    let program = dir.join("xtask");
    fs::copy(std::env::current_exe()?, &program).context("cannot copy xtask")?;
    let step = Step::start("measuring in the testbed (3-6 minutes)");
    let status = testbed::run(&Testbed {
        shares: vec![dir.clone()],
        count: true,
        command: vec![
            program.display().to_string(),
            "bench-inside".to_owned(),
            format!("--runs={}", bench.runs),
            dir.display().to_string(),
        ],
        ..Testbed::default()
    })?;
    ensure!(
        status == 0,
        "the measurement failed with status {status}; see above"
    );
    step.done("");
    report(bench, &dir)
}

fn report(bench: &Bench, dir: &Path) -> Result<i32> {
    let text =
        fs::read_to_string(dir.join(inside::RESULTS)).context("the measurement left no results")?;
    let (results, starts) = inside::parse(&text)?;
    let commit = commit()?;
    let table = report::table(&results, &starts, &commit);
    let files = [
        ("boot.md", table.clone()),
        ("boot.svg", plot::bars(&results, &commit)),
    ];
    let mut places = vec![dir.to_owned()];
    if bench.keep {
        places.push(paths::workspace().join("docs/bench"));
    }
    for place in &places {
        fs::create_dir_all(place)?;
        for (name, content) in &files {
            fs::write(place.join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
        eprintln!("written: {}", place.join("boot.md").display());
    }
    report::print(&table);
    Ok(0)
}

/// The commit that is measured, and whether the tree is changed since.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        command::output(
            Command::new("git")
                .args(arguments)
                .current_dir(paths::workspace()),
        )
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(format!(
        "{}{}",
        commit.trim(),
        if changed {
            " with uncommitted changes"
        } else {
            ""
        }
    ))
}

/// Compiles the guest and packs it.
fn guest(dir: &Path) -> Result<PathBuf> {
    let (source, program, initrd) = (
        dir.join("guest.c"),
        dir.join("guest"),
        dir.join("bench.img"),
    );
    fs::write(&source, GUEST)?;
    command::output(
        Command::new("cc")
            .args(["-static", "-O2", "-s", "-o"])
            .arg(&program)
            .arg(&source),
    )?;
    let mut rootfs = Command::new(build::bin("husk-rootfs"));
    rootfs
        .args(["initrd", "--compress", "none", "--agent"])
        .arg(&program)
        .arg("--output")
        .arg(&initrd);
    command::output(&mut rootfs)?;
    Ok(initrd)
}
