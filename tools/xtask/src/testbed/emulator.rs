//! The QEMU that emulates L1: this machine's own if it is sound, otherwise Debian's newest for its stable release. That is unpacked
//! in the cache with every library it uses, and started by its own dynamic linker: nothing of this machine is replaced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{image, tied_to_us};
use crate::packages::{self, Tool};
use crate::progress::Step;
use crate::{command, paths};

/// This machine's own.
pub(super) const TOOL: Tool = Tool::new(
    "qemu-system-x86_64",
    "qemu-system-x86",
    "emulates the testbed",
);
/// The first version that loses no interrupt of a processor that enters a guest: docs/testbed.md.
const SOUND: (u32, u32) = (10, 2);
/// The release that has a sound one among its backports.
const SUITE: &str = "trixie";
/// Adds the backports to the sources that `mmdebstrap` has written.
const BACKPORTS: &str = r#"--setup-hook=sed -n 's/ trixie main/ trixie-backports main/p' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list""#;

/// How to start QEMU.
pub(super) struct Emulator {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Emulator {
    /// The machine's own, or the unpacked one, which is made if the cache does not have it.
    pub(super) fn ensure() -> Result<Self> {
        if own().is_some_and(|version| version >= SOUND) {
            return Ok(Self {
                program: TOOL.file.into(),
                arguments: Vec::new(),
            });
        }
        let root = paths::cache("testbed")?.join(format!("qemu-{SUITE}"));
        if !root.exists() {
            unpack(&root)?;
        }
        Ok(Self::in_tree(&root))
    }

    fn in_tree(root: &Path) -> Self {
        let usr = root.join("usr");
        let shared = |name: &str| usr.join("share").join(name).into();
        Self {
            program: usr.join("lib64/ld-linux-x86-64.so.2"),
            arguments: vec![
                "--library-path".into(),
                usr.join("lib/x86_64-linux-gnu").into(),
                usr.join("bin").join(TOOL.file).into(),
                "-L".into(),
                shared("qemu"),
                "-L".into(),
                shared("seabios"),
            ],
        }
    }

    /// A command that ends with this process.
    pub(super) fn command(&self) -> Command {
        let mut command = tied_to_us(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// The version of this machine's own.
fn own() -> Option<(u32, u32)> {
    let path = packages::find(TOOL.file)?;
    version(&command::output(Command::new(path).arg("--version")).ok()?)
}

/// Major and minor number in what QEMU says of itself.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)?
        .split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn unpack(root: &Path) -> Result<()> {
    let lock = root.with_extension("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
    lock.lock().context("cannot lock the emulator")?;
    if root.exists() {
        return Ok(());
    }
    packages::ensure_installed(image::TOOLS)?;
    let step = Step::start(format!(
        "unpacking the testbed's QEMU of Debian {SUITE} (once, a minute)"
    ));
    let dir = root.parent().context("the cache has no directory")?;
    let work = tempfile::Builder::new().prefix("new-").tempdir_in(dir)?;
    let tree = work.path().join("tree");
    let mut fetch = Command::new("mmdebstrap");
    fetch
        .args(["--variant=extract", BACKPORTS])
        .arg(format!(
            r#"--aptopt=APT::Default-Release "{SUITE}-backports""#
        ))
        .arg(format!("--include={}", TOOL.package))
        .arg(SUITE)
        .arg(&tree);
    command::logged(&mut fetch, &work.path().join("log"), &step)?;
    fs::rename(&tree, root).context("cannot keep the emulator")?;
    step.done(&root.display().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(version(debian), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 11.1.3\n"), Some((11, 1)));
        assert_eq!(version("qemu: version"), None);
    }
}
