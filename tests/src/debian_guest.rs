//! A bare machine whose user land is the Debian that the tests run on, over virtio-fs, with one more share to write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::machine::{KERNEL, Machine, initrd};
use crate::output;

/// First process of the guest.
const INIT: &str = include_str!("../virtio-fs/init");
/// Enough for a compiler, little enough that files leave the guest's cache.
const MEMORY_MIB: u32 = 768;

/// The machine, and the directory that it shares for writing.
pub struct DebianGuest {
    machine: Machine,
    data: TempDir,
}

/// What a script said in the guest.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Both its outputs.
    pub output: String,
}

impl DebianGuest {
    /// Makes the config. The shared directory is on the root file system: the tests' /tmp has no extended attributes.
    pub fn new() -> Result<Self> {
        Self::caching("auto", false)
    }

    /// The same, where the guest caches by `policy`, and gathers writes if `writeback`.
    pub fn caching(policy: &str, writeback: bool) -> Result<Self> {
        let data = TempDir::with_prefix_in("husk-share-", "/var/tmp")?;
        // The guest's users go through it.
        fs::set_permissions(data.path(), Permissions::from_mode(0o755))?;
        let machine = Machine::new(&json!({
            "memory": {"size_mib": MEMORY_MIB},
            "boot": {"kernel": KERNEL, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet panic=-1"},
            "serial": {"mode": "file", "path": "$DIR/serial"},
            "devices": [{"type": "fs", "tag": "husk", "cache": policy, "writeback": writeback, "shares": [
                {"name": "root", "source": "/", "read_only": true},
                {"name": "data", "source": data.path()},
            ]}],
        }))?;
        let busybox = fs::read("/bin/busybox").context("busybox-static is missing")?;
        initrd(
            &[
                ("/bin/busybox", 0o755, &busybox),
                ("/init", 0o755, INIT.as_bytes()),
            ],
            &machine.file("initrd"),
        )?;
        Ok(Self { machine, data })
    }

    /// The shared directory. The guest has it as /mnt.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Puts a file into the shared directory.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.data.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Boots the guest, runs a script of bash as its root, and waits until it is off again.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Said> {
        self.put("script", script.as_bytes())?;
        let ended = output::wait(&mut *self.machine.start()?, limit)?;
        let read = |path: PathBuf| fs::read(path).unwrap_or_default();
        let serial = read(self.machine.file("serial"));
        let serial = String::from_utf8_lossy(&serial).into_owned();
        let output = read(self.data().join("output"));
        let output = String::from_utf8_lossy(&output).into_owned();
        ensure!(ended.success(), "husk-vmm: {ended}\n{output}\n{serial}");
        let status = fs::read_to_string(self.data().join("status"));
        let status = status.with_context(|| format!("the guest ran nothing: {serial}"))?;
        Ok(Said {
            status: status.trim().parse()?,
            output,
        })
    }
}
