//! The shares of one container: in the machine's config if it is the first, attached to the running machine if it joins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::sandbox::ShareConfig;

use super::{Install, SandboxError};
use crate::process::ProcessRef;

/// The list of a container's shares, in its directory, as `husk-vmm share` reads it.
#[derive(Debug)]
pub(crate) struct ShareList {
    path: PathBuf,
}

impl ShareList {
    /// That of the container whose state directory is `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        Self {
            path: dir.join("shares.json"),
        }
    }

    /// Writes it, before the first of them is attached.
    pub(crate) fn write(&self, shares: &[ShareConfig]) -> Result<(), SandboxError> {
        let failed = |source: io::Error| SandboxError::File {
            path: self.path.clone(),
            source,
        };
        let json = serde_json::to_vec(shares).map_err(|error| failed(error.into()))?;
        fs::write(&self.path, json).map_err(failed)
    }

    /// Adds the shares to a machine that runs.
    pub(crate) fn attach(&self, install: &Install, vmm: ProcessRef) -> Result<(), SandboxError> {
        self.change("attach", install, vmm)
    }

    /// Takes those away that are there. A container that never had a list has no shares.
    pub(crate) fn detach(&self, install: &Install, vmm: ProcessRef) -> Result<(), SandboxError> {
        if !self.path.exists() {
            return Ok(());
        }
        self.change("detach", install, vmm)
    }

    fn change(&self, verb: &str, install: &Install, vmm: ProcessRef) -> Result<(), SandboxError> {
        let mut command = Command::new(&install.vmm);
        command.args(["share", verb, "--pid", &vmm.pid.to_string(), "--list"]);
        command
            .arg(&self.path)
            .stdin(Stdio::null())
            .current_dir("/");
        let output = command.output().map_err(|source| SandboxError::Launch {
            path: install.vmm.clone(),
            source,
        })?;
        if output.status.success() && vmm.is_alive() {
            return Ok(());
        }
        if !vmm.is_alive() {
            return Err(SandboxError::Ended);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(SandboxError::Shares { reason: said })
    }
}
