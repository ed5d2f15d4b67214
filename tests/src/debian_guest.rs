//! A bare machine whose user land is the Debian that the tests run on, over virtio-fs, with one more share to write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
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
        Self::make(1, &json!({}), vec![])
    }

    /// The same, where the guest caches by `policy`, and gathers writes if `writeback`.
    pub fn caching(policy: &str, writeback: bool) -> Result<Self> {
        Self::make(1, &json!({"cache": policy, "writeback": writeback}), vec![])
    }

    /// One with more processors and devices.
    pub fn with(vcpus: u8, devices: Vec<Value>) -> Result<Self> {
        Self::make(vcpus, &json!({}), devices)
    }

    fn make(vcpus: u8, caching: &Value, devices: Vec<Value>) -> Result<Self> {
        let data = TempDir::with_prefix_in("husk-share-", "/var/tmp")?;
        // The guest's users go through it.
        fs::set_permissions(data.path(), Permissions::from_mode(0o755))?;
        let mut fs = json!({"type": "fs", "tag": "husk", "shares": [
            {"name": "root", "source": "/", "read_only": true},
            {"name": "data", "source": data.path()},
        ]});
        for (option, value) in caching.as_object().into_iter().flatten() {
            fs[option] = value.clone();
        }
        let devices: Vec<_> = [fs].into_iter().chain(devices).collect();
        let machine = Machine::new(&json!({
            "vcpus": vcpus,
            "memory": {"size_mib": MEMORY_MIB},
            "boot": {"kernel": KERNEL, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet panic=-1"},
            "serial": {"mode": "file", "path": "$DIR/serial"},
            "devices": devices,
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

    /// Waits until the guest has made a file in the shared directory; fails if `machine` ends before.
    pub fn wait_for(&self, name: &str, machine: &mut Child, limit: Duration) -> Result<()> {
        let path = self.data().join(name);
        let ended = |machine: &mut Child| matches!(machine.try_wait(), Ok(Some(_)));
        output::until(&format!("the guest makes {name}"), limit, || {
            path.exists() || ended(machine)
        })?;
        ensure!(path.exists(), "the guest ended before it made {name}");
        Ok(())
    }

    /// Boots the guest, runs a script of bash as its root, and waits until it is off again.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Said> {
        self.run_beside(script, limit, |_| Ok(()))
    }

    /// The same, and does `beside` on the host meanwhile.
    pub fn run_beside(
        &self,
        script: &str,
        limit: Duration,
        beside: impl FnOnce(&mut Child) -> Result<()>,
    ) -> Result<Said> {
        self.put("script", script.as_bytes())?;
        let mut machine = self.machine.start()?;
        let done = beside(&mut machine);
        if done.is_err() {
            machine.kill()?;
        }
        let ended = output::wait(&mut machine, limit)?;
        let read = |path: PathBuf| fs::read(path).unwrap_or_default();
        let serial = read(self.machine.file("serial"));
        let serial = String::from_utf8_lossy(&serial).into_owned();
        let output = read(self.data().join("output"));
        let output = String::from_utf8_lossy(&output).into_owned();
        done.with_context(|| format!("{output}\n{serial}"))?;
        ensure!(ended.success(), "husk-vmm: {ended}\n{output}\n{serial}");
        let status = fs::read_to_string(self.data().join("status"));
        let status = status.with_context(|| format!("the guest ran nothing: {serial}"))?;
        Ok(Said {
            status: status.trim().parse()?,
            output,
        })
    }
}
