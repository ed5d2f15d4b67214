//! What the product links: one vm-memory (its types would not fit together), nothing from git, and a tree that can be read.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Tree;
use crate::{command, paths};

/// Crates that `vmm` and `devices` may resolve to together, themselves included.
const VMM_CRATES: usize = 90;
/// Crates that would bring an async runtime into the parts that do without.
const ASYNC_RUNTIMES: [&str; 4] = ["tokio", "async-std", "smol", "futures-executor"];

pub(super) fn check(_tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let lock = fs::read_to_string(paths::workspace().join("Cargo.lock"))
        .context("cannot read Cargo.lock")?;
    let versions = lock
        .split("[[package]]")
        .filter(|package| package.contains("\nname = \"vm-memory\"\n"))
        .count();
    if versions > 1 {
        found.push(format!("Cargo.lock: {versions} versions of vm-memory"));
    }
    if lock.contains("\"git+") {
        found.push("Cargo.lock: a dependency from git".to_owned());
    }
    let vmm = crates(&["vmm", "devices"])?;
    if vmm.len() > VMM_CRATES {
        found.push(format!(
            "vmm and devices: {} crates, more than {VMM_CRATES}",
            vmm.len()
        ));
    }
    let linked = vmm.into_iter().chain(crates(&["agent"])?);
    let names: BTreeSet<String> = linked
        .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
        .collect();
    for runtime in ASYNC_RUNTIMES
        .iter()
        .filter(|runtime| names.contains(**runtime))
    {
        found.push(format!(
            "vmm, devices or agent: {runtime} is an async runtime"
        ));
    }
    Ok(found)
}

/// Name and version of everything that some of our crates link.
fn crates(packages: &[&str]) -> Result<BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    let text = command::output(cargo.current_dir(paths::workspace()))?;
    let lines = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned());
    Ok(lines.filter(|line| !line.is_empty()).collect())
}
