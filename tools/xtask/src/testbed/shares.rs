//! Directories of the host inside L1: a virtiofsd each.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Tool};

/// Where Debian has had virtiofsd: first the Rust one, then QEMU's own of bookworm.
const RUST_DAEMON: &str = "/usr/libexec/virtiofsd";
const C_DAEMON: &str = "/usr/lib/qemu/virtiofsd";
/// How long a daemon may take until its socket is there.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Every share is a device on L1's only bus, which has 32 slots.
const MAX_SHARES: usize = 16;
/// Directories that make L1 itself: another one in their place and it no longer runs.
const RESERVED: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/opt",
    "/opt/husk",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/bin",
    "/usr/sbin",
    "/var",
    "/var/lib",
];

/// A directory of the host, and the tag by which L1 mounts it.
pub(super) struct Share {
    pub(super) tag: String,
    pub(super) dir: PathBuf,
}

/// The shares that the user asked for, outer directories before those within them.
pub(super) fn plan(dirs: &[PathBuf]) -> Result<Vec<Share>> {
    let mut resolved = Vec::new();
    for dir in dirs {
        let path = std::path::absolute(dir)?;
        ensure!(
            path.is_dir(),
            "--share {}: no such directory",
            dir.display()
        );
        ensure!(
            !RESERVED.iter().any(|reserved| path == Path::new(reserved))
                && !["/proc", "/sys", "/dev"]
                    .iter()
                    .any(|top| path.starts_with(top)),
            "--share {}: L1 needs its own; share a directory within",
            dir.display()
        );
        resolved.push(path);
    }
    resolved.sort();
    resolved.dedup();
    ensure!(
        resolved.len() <= MAX_SHARES,
        "more than {MAX_SHARES} shares"
    );
    Ok(resolved
        .into_iter()
        .enumerate()
        .map(|(index, dir)| Share {
            tag: format!("share{index}"),
            dir,
        })
        .collect())
}

/// Makes sure that there is a daemon.
pub(super) fn ensure_daemon() -> Result<()> {
    missing_daemon().map_or(Ok(()), |tool| {
        packages::ensure_installed(std::slice::from_ref(tool))
    })
}

/// The daemon to install, if there is none.
pub(super) fn missing_daemon() -> Option<&'static Tool> {
    const WHY: &str = "shares directories with the testbed";
    const OLD: Tool = Tool::new(C_DAEMON, "qemu-system-common", WHY);
    const NEW: Tool = Tool::new(RUST_DAEMON, "virtiofsd", WHY);
    if !OLD.is_missing() || !NEW.is_missing() {
        return None;
    }
    // bookworm has it in QEMU's package, later releases in one of its own.
    let bookworm = std::fs::read_to_string("/etc/os-release")
        .is_ok_and(|release| release.contains("VERSION_CODENAME=bookworm"));
    Some(if bookworm { &OLD } else { &NEW })
}

/// Starts the daemon of one share; it ends with its QEMU or with this process.
pub(super) fn serve(dir: &Path, socket: &Path, log: &Path) -> Result<Child> {
    let mut command = super::tied_to_us(if Path::new(RUST_DAEMON).exists() {
        RUST_DAEMON
    } else {
        C_DAEMON
    });
    command.arg(format!("--socket-path={}", socket.display()));
    if Path::new(RUST_DAEMON).exists() {
        let sandbox = if packages::is_root() {
            "chroot"
        } else {
            "namespace"
        };
        command.arg("--shared-dir").arg(dir).args([
            "--xattr",
            "--cache=auto",
            "--sandbox",
            sandbox,
        ]);
    } else {
        ensure!(
            packages::is_root(),
            "sharing {} needs root with this virtiofsd: run as root, or install the package virtiofsd",
            dir.display()
        );
        command.arg("-o").arg(format!("source={}", dir.display()));
        command.args(["-o", "cache=auto", "-o", "xattr", "-o", "sandbox=chroot"]);
    }
    let file = std::fs::File::create(log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("cannot start virtiofsd")?;
    wait_for_socket(&mut child, socket, log)?;
    Ok(child)
}

fn wait_for_socket(child: &mut Child, socket: &Path, log: &Path) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            bail!("virtiofsd failed ({status}): {}", text.trim());
        }
        ensure!(start.elapsed() < START_LIMIT, "virtiofsd did not start");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
