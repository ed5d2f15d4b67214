//! An ordinary user of the host, who may use `/dev/kvm`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::output::{self, Output, shell};

/// Its name.
const NAME: &str = "husk-user";

/// Devices that every user may open on hosts for rootless containers; the testbed keeps them to root.
const DEVICES: [&str; 2] = ["/dev/kvm", "/dev/net/tun"];

/// The user, with a home and a runtime directory, until it goes out of scope.
pub struct User {
    uid: u32,
    modes: Vec<(PathBuf, Permissions)>,
}

impl User {
    /// Makes the user, with subordinate ids.
    pub fn new() -> Result<Self> {
        let mut user = Self {
            uid: 0,
            modes: Vec::new(),
        };
        shell(&format!(
            "useradd --create-home --home-dir /var/tmp/{NAME} {NAME}"
        ))?
        .ok();
        let uid = shell(&format!("id -u {NAME}"))?;
        user.uid = uid.ok().trim().parse()?;
        let runtime = user.runtime_dir();
        shell(&format!(
            "mkdir -p {0} && chown {NAME} {0}",
            runtime.display()
        ))?
        .ok();
        for device in DEVICES {
            let before = fs::metadata(device).context(device)?.permissions();
            fs::set_permissions(device, Permissions::from_mode(0o666))?;
            user.modes.push((device.into(), before));
        }
        Ok(user)
    }

    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// `$XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        Path::new("/run/user").join(self.uid.to_string())
    }

    /// Gives the user a directory and all that is in it.
    pub fn own(&self, dir: &Path) -> Result<()> {
        shell(&format!("chown -R {NAME}: {}", dir.display()))?.ok();
        Ok(())
    }

    /// Runs a script of the shell as the user, in `dir`, to its end.
    pub fn run(&self, dir: &Path, script: &str) -> Result<Output> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NAME, "--regid", NAME, "--clear-groups"]);
        command.args(["--", "sh", "-c", script]);
        command
            .env("XDG_RUNTIME_DIR", self.runtime_dir())
            .env("HOME", format!("/var/tmp/{NAME}"))
            .env("USER", NAME)
            .current_dir(dir);
        output::run(&mut command, b"")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for (device, before) in &self.modes {
            let _outcome = fs::set_permissions(device, before.clone());
        }
        let runtime = self.runtime_dir();
        // Files of subordinate ids too. What stays is told of as a leak.
        let _outcome = shell(&format!(
            "rm -rf {}; userdel --remove {NAME} 2>&1",
            runtime.display()
        ));
    }
}
