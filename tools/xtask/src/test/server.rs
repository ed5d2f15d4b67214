//! The root file system of a real server, redis, of Debian's packages: made once and kept in the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Tool};
use crate::progress::Step;
use crate::{command, paths};

/// What it takes.
const TOOLS: &[Tool] = &[Tool::new(
    "mmdebstrap",
    "mmdebstrap",
    "makes the server's file system",
)];

/// Any release has them; one that is named makes the same image everywhere.
const SUITE: &str = "bookworm";

/// The server, its client, and a shell to look around with.
const PACKAGES: &str = "redis-server,redis-tools,busybox-static";

/// Puts the archive `redis.tar` into `dir`.
pub(super) fn install(dir: &Path) -> Result<()> {
    let cache = paths::cache("suites")?;
    let archive = cache.join(format!("redis-{SUITE}.tar"));
    if !archive.exists() {
        packages::ensure_installed(TOOLS)?;
        let step = Step::start("making the file system of a server".to_owned());
        let work = tempfile::Builder::new().prefix("new-").tempdir_in(&cache)?;
        let new = work.path().join("redis.tar");
        let mut make = Command::new("mmdebstrap");
        // Unpacked alone: a server needs no more, and the packages' scripts would need a whole Debian.
        make.args(["--variant=extract", "--dpkgopt=path-exclude=/usr/share/*"])
            .arg(format!("--include={PACKAGES}"))
            .arg(SUITE)
            .arg(&new);
        command::output(&mut make)?;
        fs::rename(new, &archive).context("cannot keep the server's file system")?;
        step.done("");
    }
    fs::copy(&archive, dir.join("redis.tar"))
        .with_context(|| format!("cannot copy {}", archive.display()))?;
    Ok(())
}
