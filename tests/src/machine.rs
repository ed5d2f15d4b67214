//! A bare machine: `husk-vmm` with a config of the test's own.

use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::output::{self, Output};

/// husk's own guest kernel.
pub const KERNEL: &str = "/usr/local/share/husk/vmlinux";

/// husk's own initrd: the agent.
pub const INITRD: &str = "/usr/local/share/husk/initrd.img";

/// A sandbox config in a directory of its own.
pub struct Machine {
    dir: TempDir,
}

impl Machine {
    /// Writes the config. `$DIR` in any string of it is the machine's directory.
    pub fn new(config: &Value) -> Result<Self> {
        let dir = TempDir::with_prefix("husk-machine-")?;
        let text = serde_json::to_string_pretty(config)?;
        let place = dir.path().to_str().context("not UTF-8")?;
        std::fs::write(dir.path().join("config.json"), text.replace("$DIR", place))?;
        Ok(Self { dir })
    }

    /// Writes any bytes as config.
    pub fn raw(config: &[u8]) -> Result<Self> {
        let dir = TempDir::with_prefix("husk-machine-")?;
        std::fs::write(dir.path().join("config.json"), config)?;
        Ok(Self { dir })
    }

    /// A path in the machine's directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The machine's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("husk-vmm");
        command.arg("--config").arg(self.file("config.json"));
        command
    }

    /// Runs the machine to its end.
    pub fn run(&self) -> Result<Output> {
        output::run(&mut self.command(), b"")
    }

    /// Starts the machine with an API socket `$DIR/api`; its output goes to the test's.
    pub fn start(&self) -> Result<Running> {
        let mut command = self.command();
        command
            .arg("--api-socket")
            .arg(self.file("api"))
            .stdin(Stdio::null());
        Ok(Running(command.spawn().context("cannot start husk-vmm")?))
    }

    /// One request to the API: the whole answer.
    pub fn api(&self, method: &str, path: &str) -> Result<String> {
        let mut client = UnixStream::connect(self.file("api"))?;
        write!(
            client,
            "{method} {path} HTTP/1.1\r\nHost: husk\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A running VMM; killed at the latest when it goes out of scope.
pub struct Running(Child);

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _outcome = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Packs files into an uncompressed initrd. Each entry is a path in the guest, a mode, and the content.
pub fn initrd(files: &[(&str, u32, &[u8])], to: &Path) -> Result<()> {
    let tree = TempDir::with_prefix("husk-initrd-")?;
    for (path, mode, content) in files {
        use std::os::unix::fs::PermissionsExt;
        let path = tree.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
    }
    let pack = format!("find . | cpio -o -H newc --quiet > {}", to.display());
    let packed = output::run(
        Command::new("sh")
            .args(["-c", &pack])
            .current_dir(tree.path()),
        b"",
    )?;
    anyhow::ensure!(packed.status.success(), "{packed:?}");
    Ok(())
}
