//! The root file system: an initramfs, which has to be left, or a disk's, which the kernel has mounted over it.
//!
//! `pivot_root` refuses to work while the initramfs is the root of the mount namespace: it is the one mount without a parent. A
//! second mount of the same tree, moved over it, has one: nothing is copied, and every page of the agent stays where the kernel
//! unpacked it.

use rustix::fs::CWD;
use rustix::io::Errno;

/// Where the second mount stands for a moment.
const STAGING: &str = "/root.next";

/// What `statfs` says of an initramfs: which of the two it is depends on whether the command line names a root.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Which step of the move failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot leave the initramfs: {step}")]
pub(crate) struct RootError {
    step: &'static str,
    #[source]
    source: Errno,
}

/// What the root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// In memory, to be written to.
    Initramfs,
    /// A file system of a disk, perhaps one that cannot be written to.
    Disk,
}

/// Makes the root a mount that containers can pivot away from, if it is not.
pub(crate) fn leave_initramfs() -> Result<Root, RootError> {
    let failed = |step| move |source| RootError { step, source };
    let kind = rustix::fs::statfs("/").map_err(failed("statfs"))?.f_type;
    if !IN_MEMORY.contains(&kind.cast_unsigned()) {
        return Ok(Root::Disk);
    }
    rustix::fs::mkdirat(CWD, STAGING, 0o700.into()).map_err(failed("mkdir"))?;
    rustix::mount::mount_bind("/", STAGING).map_err(failed("bind"))?;
    rustix::process::chdir(STAGING).map_err(failed("chdir"))?;
    rustix::mount::mount_move(STAGING, "/").map_err(failed("move"))?;
    rustix::process::chroot(".").map_err(failed("chroot"))?;
    rustix::process::chdir("/").map_err(failed("chdir to the new root"))?;
    rustix::fs::unlinkat(CWD, STAGING, rustix::fs::AtFlags::REMOVEDIR).map_err(failed("rmdir"))?;
    Ok(Root::Initramfs)
}
