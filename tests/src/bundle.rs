//! OCI bundles for the tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::output;

/// Programs that a busybox root file system has by name.
const APPLETS: &[&str] = &[
    "sh",
    "cat",
    "echo",
    "ls",
    "sleep",
    "true",
    "false",
    "uname",
    "id",
    "stat",
    "mount",
    "head",
    "dd",
    "sha256sum",
    "kill",
    "ps",
    "stty",
    "tty",
    "env",
    "wc",
    "touch",
    "rm",
    "mkdir",
    "hostname",
    "test",
    "readlink",
    "find",
    "grep",
    "seq",
    "yes",
    "trap",
    "pwd",
    "printf",
    "chmod",
    "ln",
    "mkfifo",
    "nproc",
    "nc",
];

/// A bundle in a directory of its own, which goes away with it.
pub struct Bundle {
    dir: TempDir,
    config: Value,
}

impl Bundle {
    /// A busybox root file system, and `husk spec`'s config without a terminal.
    pub fn busybox() -> Result<Self> {
        let bundle = Self::with_rootfs(None)?;
        let bin = bundle.path().join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        for dir in ["dev", "proc", "sys", "tmp", "etc", "root", "mnt"] {
            fs::create_dir_all(bundle.path().join("rootfs").join(dir))?;
        }
        fs::copy("/bin/busybox", bin.join("busybox")).context("busybox-static is missing")?;
        for applet in APPLETS {
            symlink("busybox", bin.join(applet))?;
        }
        fs::write(
            bundle.path().join("rootfs/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\n",
        )?;
        Ok(bundle)
    }

    /// The Debian that the tests themselves run on, as root file system: its root directory without what is mounted below.
    pub fn debian(view: &DebianRoot) -> Result<Self> {
        Self::with_rootfs(Some(&view.dir))
    }

    fn with_rootfs(rootfs: Option<&Path>) -> Result<Self> {
        let dir = TempDir::with_prefix("husk-bundle-")?;
        let spec = output::run(
            Command::new("husk")
                .args(["spec", "--bundle"])
                .arg(dir.path()),
            b"",
        )?;
        ensure!(spec.status.success(), "husk spec failed: {spec:?}");
        let text = fs::read_to_string(dir.path().join("config.json"))?;
        let mut config: Value = serde_json::from_str(&text)?;
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        if let Some(rootfs) = rootfs {
            config["root"]["path"] = json!(rootfs);
        }
        let bundle = Self { dir, config };
        bundle.save()?;
        Ok(bundle)
    }

    /// The same bundle with other arguments for its process.
    pub fn args(self, args: &[&str]) -> Result<Self> {
        self.set("/process/args", json!(args))
    }

    /// The same bundle with a shell line for its process.
    pub fn shell(self, line: &str) -> Result<Self> {
        self.args(&["/bin/sh", "-c", line])
    }

    /// The same bundle with a terminal.
    pub fn terminal(self) -> Result<Self> {
        self.set("/process/terminal", json!(true))
    }

    /// The same bundle with one more bind mount.
    pub fn bind(mut self, source: &Path, target: &str, options: &[&str]) -> Result<Self> {
        let mounts = self.config["mounts"].as_array_mut().context("no mounts")?;
        let mut all = vec!["rbind"];
        all.extend_from_slice(options);
        mounts
            .push(json!({"destination": target, "type": "bind", "source": source, "options": all}));
        self.save()?;
        Ok(self)
    }

    /// The same bundle with the field at `pointer` (RFC 6901) set to `value`. The field's parent must exist.
    pub fn set(mut self, pointer: &str, value: Value) -> Result<Self> {
        let (parent, key) = pointer.rsplit_once('/').context("not a JSON pointer")?;
        let parent = self
            .config
            .pointer_mut(parent)
            .context("no such field in the config")?;
        parent[key] = value;
        self.save()?;
        Ok(self)
    }

    /// The field at `pointer` (RFC 6901), if there is one.
    #[must_use]
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.config.pointer(pointer)
    }

    /// Replaces `config.json` by any bytes.
    pub fn raw_config(self, bytes: &[u8]) -> Result<Self> {
        fs::write(self.path().join("config.json"), bytes)?;
        Ok(self)
    }

    /// The bundle's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn save(&self) -> Result<()> {
        fs::write(
            self.path().join("config.json"),
            serde_json::to_vec_pretty(&self.config)?,
        )?;
        Ok(())
    }
}

/// A view of `/` without the file systems mounted below it.
pub struct DebianRoot {
    dir: PathBuf,
}

impl DebianRoot {
    /// Makes the view.
    pub fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("husk-debian-")?.keep();
        let mount = output::run(Command::new("mount").args(["--bind", "/"]).arg(&dir), b"")?;
        ensure!(mount.status.success(), "{mount:?}");
        Ok(Self { dir })
    }
}

impl Drop for DebianRoot {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.dir).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "cannot unmount {:?}",
            self.dir
        );
        assert!(
            fs::remove_dir(&self.dir).is_ok(),
            "cannot remove {:?}",
            self.dir
        );
    }
}
