//! Starts `husk-vmm` as a child that cannot outlive the last holder of its lifeline, and holds it by pidfd.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::SandboxError;
use crate::process::{ProcessRef, wait_readable};

/// How much of the machine monitor's log is searched for the reason of its end, in bytes.
const LOG_TAIL: i64 = 4096;

/// A running `husk-vmm`. Dropping it kills the machine, unless it was left to others.
#[derive(Debug)]
pub(crate) struct Vmm {
    child: Child,
    pidfd: OwnedFd,
    log: PathBuf,
    left: bool,
}

impl Vmm {
    /// Starts the program with the config in a file. It ends when `lifeline`, the read end of a pipe, has no writer any more. What
    /// it says on standard error goes to `log`.
    pub(super) fn launch(
        program: &Path,
        config: &Path,
        lifeline: File,
        log: PathBuf,
    ) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::Launch {
            path: program.to_owned(),
            source,
        };
        let mut command = Command::new(program);
        command.arg("--lifeline").arg("--config").arg(config);
        command.current_dir("/").stdin(lifeline);
        command.stdout(Stdio::null());
        command.stderr(File::create(&log).map_err(failed)?);
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self {
                child,
                pidfd,
                log,
                left: false,
            }),
            Err(errno) => {
                // Without a pidfd its end would go unnoticed.
                drop(child.kill().and_then(|()| child.wait()));
                Err(failed(errno.into()))
            }
        }
    }

    /// How `state.json` names it.
    pub(super) fn process(&self) -> io::Result<ProcessRef> {
        let pid = i32::try_from(self.child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
        ProcessRef::of(pid)
    }

    /// Waits for the machine's end; false if it still runs after `limit`.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        wait_readable(self.pidfd.as_fd(), limit)
    }

    /// Ends the machine if it has not ended, and says how it did.
    pub(super) fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Leaves it to the other holders of its lifeline.
    pub(super) fn leave(&mut self) {
        self.left = true;
    }

    /// Why it ended, in one line: the last one of its log, or its status.
    pub(super) fn last_words(&mut self) -> String {
        let status = self.child.wait();
        let said = read_tail(&self.log).unwrap_or_default();
        let line = said.lines().rev().find(|line| !line.trim().is_empty());
        match (line, status) {
            (Some(line), _) => line.trim().to_owned(),
            (None, Ok(status)) => describe(status),
            (None, Err(error)) => error.to_string(),
        }
    }
}

impl AsFd for Vmm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        if !self.left {
            // It is our child and not reaped before this: both calls can only fail if it has been.
            drop(self.end());
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended".to_owned(),
    }
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if file.seek(SeekFrom::End(-LOG_TAIL)).is_err() {
        file.rewind()?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(script: &str) -> (tempfile::TempDir, Result<Vmm, SandboxError>) {
        let dir = tempfile::tempdir().unwrap();
        // A shell reads its own arguments: `--config` is refused, so the script is a program of its own.
        let program = dir.path().join("vmm");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut mode = std::fs::metadata(&program).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let lifeline = File::open("/dev/null").unwrap();
        let log = dir.path().join("log");
        let vmm = Vmm::launch(&program, Path::new("/c.json"), lifeline, log);
        (dir, vmm)
    }

    #[test]
    fn the_reason_of_an_early_end_is_its_last_line() {
        let (_dir, vmm) = launch("echo first >&2; echo 'husk-vmm: no KVM' >&2; exit 3");
        let mut vmm = vmm.unwrap();
        assert!(vmm.wait(Duration::from_secs(10)));
        assert_eq!(vmm.last_words(), "husk-vmm: no KVM");
    }

    #[test]
    fn a_silent_end_is_described() {
        let (_dir, vmm) = launch("exit 3");
        assert_eq!(vmm.unwrap().last_words(), "it ended with code 3");
    }

    #[test]
    fn dropping_it_ends_it() {
        let (_dir, vmm) = launch("exec sleep 1000");
        let vmm = vmm.unwrap();
        let process = vmm.process().unwrap();
        assert!(process.is_alive());
        drop(vmm);
        assert!(!process.is_alive());
    }

    #[test]
    fn a_missing_program_is_named() {
        let vmm = Vmm::launch(
            Path::new("/nowhere/husk-vmm"),
            Path::new("/c"),
            File::open("/dev/null").unwrap(),
            "/dev/null".into(),
        );
        assert!(vmm.unwrap_err().to_string().contains("/nowhere/husk-vmm"));
    }
}
