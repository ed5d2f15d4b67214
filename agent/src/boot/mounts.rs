//! The file systems of the guest, as a table.
//!
//! Only what calls need is mounted at boot. The sandbox's shares are mounted by the first container that comes: a
//! FUSE handshake with the host has no place before the agent answers.

use std::sync::Mutex;

use protocol::rpc::{LAST_SYNC, SHARES_DIR, SHARES_TAG};
use rustix::fs::{CWD, XattrFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::root::Root;

/// Why the guest has not the file systems it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The mount point could not be made.
    #[error("cannot make {path}")]
    MountPoint {
        /// The mount point.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The mount failed.
    #[error("cannot mount {kind} on {path}")]
    Mount {
        /// Type of the file system.
        kind: &'static str,
        /// The mount point.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
}

/// One mount.
struct Mount {
    source: &'static str,
    path: &'static str,
    kind: &'static str,
    flags: MountFlags,
}

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// In order: a later mount may lie inside an earlier one.
const BOOT: &[Mount] = &[
    Mount {
        source: "proc",
        path: "/proc",
        kind: "proc",
        flags: SAFE,
    },
    Mount {
        source: "sysfs",
        path: "/sys",
        kind: "sysfs",
        flags: SAFE,
    },
    Mount {
        source: "cgroup2",
        path: "/sys/fs/cgroup",
        kind: "cgroup2",
        flags: SAFE,
    },
    Mount {
        source: "devtmpfs",
        path: "/dev",
        kind: "devtmpfs",
        flags: MountFlags::NOSUID,
    },
];

/// What the agent writes lies there, also where the root cannot be written to.
const RUN: Mount = Mount {
    source: "run",
    path: "/run",
    kind: "tmpfs",
    flags: MountFlags::NOSUID.union(MountFlags::NODEV),
};

const SHARES: Mount = Mount {
    source: SHARES_TAG,
    path: SHARES_DIR,
    kind: "virtiofs",
    // Containers' roots lie inside: devices and set-user-id programs are theirs to allow.
    flags: MountFlags::empty(),
};

/// Mounts what every call needs.
pub(crate) fn mount_all(root: Root) -> Result<(), MountError> {
    let run = (root == Root::Disk).then_some(&RUN);
    BOOT.iter().chain(run).try_for_each(Mount::mount)
}

/// Mounts the sandbox's shares, unless they are mounted already.
pub(crate) fn mount_shares() -> Result<(), MountError> {
    static MOUNTED: Mutex<bool> = Mutex::new(false);
    let mut mounted = crate::locked(&MOUNTED);
    if !*mounted {
        for path in ["/run", "/run/husk"] {
            make_dir(path)?;
        }
        SHARES.mount()?;
        *mounted = true;
    }
    Ok(())
}

/// Tells the host that the machine is about to end.
pub(crate) fn announce_last_sync() {
    // Without shares there is nothing to write back, and nobody to tell.
    let _outcome = rustix::fs::setxattr(SHARES_DIR, LAST_SYNC, &[], XattrFlags::empty());
}

impl Mount {
    fn mount(&self) -> Result<(), MountError> {
        make_dir(self.path)?;
        rustix::mount::mount(self.source, self.path, self.kind, self.flags, None).map_err(
            |source| MountError::Mount {
                kind: self.kind,
                path: self.path,
                source,
            },
        )
    }
}

fn make_dir(path: &'static str) -> Result<(), MountError> {
    match rustix::fs::mkdirat(CWD, path, 0o755.into()) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(source) => Err(MountError::MountPoint { path, source }),
    }
}
