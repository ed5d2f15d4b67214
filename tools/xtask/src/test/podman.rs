//! Podman's system tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::source::Source;
use crate::command;

const SOURCE: Source = Source {
    name: "Podman",
    package: "libpod",
    version: "4.3.1+ds1",
    sha256: "2785fcade807395d6d1bf2a31a910cf051f2b3e723e98109dfe1803236a76e50",
    tests: "test/system",
};

/// Puts the tests into `dir`.
pub(super) fn install(dir: &Path) -> Result<()> {
    let home = SOURCE.unpacked(|_| Ok(()))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(home.join("system")).arg(dir);
    command::output(&mut copy).map(drop)
}
