//! Other people's test programs for `test --all`, from crates.io: built once, of pinned versions, and kept in the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Step;
use crate::{command, paths};

/// Package, which has a program of the same name, and version.
const PROGRAMS: [(&str, &str); 2] = [("pjdfstest", "0.2.2"), ("fsx", "0.3.2")];

/// Puts the programs into `dir`.
pub(super) fn install(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (package, version) in PROGRAMS {
        let home = paths::cache("suites")?.join(format!("{package}-{version}"));
        let program = home.join("bin").join(package);
        if !program.exists() {
            build(package, version, &home)?;
        }
        fs::copy(&program, dir.join(package))
            .with_context(|| format!("cannot copy {}", program.display()))?;
    }
    Ok(())
}

fn build(package: &str, version: &str, home: &Path) -> Result<()> {
    let step = Step::start(format!("installing {package} {version}"));
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "--locked", "--version", version, "--root"])
        .arg(home)
        .arg(package);
    command::output(&mut cargo)?;
    step.done("");
    Ok(())
}
