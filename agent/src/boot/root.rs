//! Leaves the initramfs, because `pivot_root` refuses to while it is the root of the mount namespace.
//!
//! The initramfs is the one mount without a parent. A second mount of the same tree, moved over it, has one: nothing
//! is copied, and every page of the agent stays where the kernel unpacked it.

use rustix::fs::CWD;
use rustix::io::Errno;

/// Where the second mount stands for a moment.
const STAGING: &str = "/root.next";

/// Which step of the move failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot leave the initramfs: {step}")]
pub(crate) struct RootError {
    step: &'static str,
    #[source]
    source: Errno,
}

/// Makes the root a mount that containers can pivot away from.
pub(crate) fn leave_initramfs() -> Result<(), RootError> {
    let failed = |step| move |source| RootError { step, source };
    rustix::fs::mkdirat(CWD, STAGING, 0o700.into()).map_err(failed("mkdir"))?;
    rustix::mount::mount_bind("/", STAGING).map_err(failed("bind"))?;
    rustix::process::chdir(STAGING).map_err(failed("chdir"))?;
    rustix::mount::mount_move(STAGING, "/").map_err(failed("move"))?;
    rustix::process::chroot(".").map_err(failed("chroot"))?;
    rustix::process::chdir("/").map_err(failed("chdir to the new root"))?;
    rustix::fs::unlinkat(CWD, STAGING, rustix::fs::AtFlags::REMOVEDIR).map_err(failed("rmdir"))
}
