//! Shares of a sandbox that runs: `husk-vmm share attach` and `detach`.
//!
//! The caller is a process of its own, in the host's mount namespace; it copies the source's mount there, then enters the
//! VMM's namespace for good. The VMM takes no part: the server sees the new name when the guest next looks for it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::source::Copied;
use super::{ATTACH, SHARES, Share, ShareError, ShareName};

/// Adds shares, all or none, to the sandbox whose VMM is process `pid`.
///
/// Must be called by the only thread of a process that has nothing else to do: it stays in the VMM's mount namespace.
pub(crate) fn attach(pid: u32, shares: &[Share]) -> Result<(), ShareError> {
    // Copies can be made only from the namespace that is being left.
    let trees = shares.iter().map(Share::copy);
    let trees = trees.collect::<Result<Vec<_>, ShareError>>()?;
    let root = join(pid)?;
    for (done, (share, tree)) in shares.iter().zip(&trees).enumerate() {
        if let Err(error) = put(root.as_fd(), share, tree) {
            for share in &shares[..done] {
                // The failure that led here is the one to report.
                drop(take_away(root.as_fd(), &share.name));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Takes the share `name` away. The guest no longer finds the name once its cache of it has expired (a second, unless the cache
/// policy is `always`); files that it has open, and directories that it is in, stay with it, as after `umount -l`.
pub(crate) fn detach(pid: u32, name: &ShareName) -> Result<(), ShareError> {
    take_away(join(pid)?.as_fd(), name)
}

/// Takes shares away, as far as they are there.
pub(crate) fn detach_all(pid: u32, names: &[ShareName]) -> Result<(), ShareError> {
    let root = join(pid)?;
    for name in names {
        match take_away(root.as_fd(), name) {
            Ok(()) | Err(ShareError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn take_away(root: BorrowedFd<'_>, name: &ShareName) -> Result<(), ShareError> {
    let path = format!("{SHARES}/{}", name.as_str());
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match unmount(path.as_str(), flags) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOENT) => return Err(ShareError::Missing(name.clone())),
        Err(error) => return Err(change("unmount", name, error)),
    }
    remove_point(root, name)
}

/// Mounts what was copied of the share at its place, seen from the namespace's root.
pub(super) fn put(root: BorrowedFd<'_>, share: &Share, copied: &Copied) -> Result<(), ShareError> {
    let name = &share.name;
    make_point(root, name, share.source.is_directory())?;
    let path = below(SHARES, name);
    copied.tree.place_at(root, &path).or_else(|error| {
        remove_point(root, name)?;
        Err(change("mount", name, error))
    })?;
    let below = copied.below.iter();
    let placed = below.map(|submount| submount.put(copied.tree.root()));
    placed.collect::<Result<(), _>>().or_else(|error| {
        take_away(root, name)?;
        Err(change("mount what is below", name, error))
    })
}

fn make_point(root: BorrowedFd<'_>, name: &ShareName, directory: bool) -> Result<(), ShareError> {
    let path = below(ATTACH, name);
    let made = if directory {
        mkdirat(root, &path, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(root, &path, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(ShareError::Exists(name.clone())),
        Err(error) => Err(change("make a mount point for", name, error)),
    }
}

fn remove_point(root: BorrowedFd<'_>, name: &ShareName) -> Result<(), ShareError> {
    let path = below(ATTACH, name);
    match unlinkat(root, &path, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) => unlinkat(root, &path, AtFlags::empty()),
        outcome => outcome,
    }
    .map_err(|error| change("remove the mount point of", name, error))
}

fn below(directory: &str, name: &ShareName) -> String {
    format!("{}/{}", directory.trim_start_matches('/'), name.as_str())
}

/// Enters the mount namespace of `pid`, and returns its root.
fn join(pid: u32) -> Result<File, ShareError> {
    let failed = |error: Errno| ShareError::Enter {
        pid,
        source: error.into(),
    };
    let open = |path: String| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(failed)
    };
    let theirs = open(format!("/proc/{pid}/ns/mnt"))?;
    let ours = open("/proc/self/ns/mnt".to_owned())?;
    let same = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_ino);
    if same(theirs.as_fd()).map_err(failed)? == same(ours.as_fd()).map_err(failed)? {
        return Err(ShareError::NotSandbox(pid));
    }
    move_into_link_name_space(theirs.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(failed)?;
    // From here on every path is of the VMM's namespace, or of that of some other process which was named by mistake.
    let root = open("/".to_owned())?;
    if is_ours(root.as_fd()) {
        Ok(root.into())
    } else {
        Err(ShareError::NotSandbox(pid))
    }
}

/// Whether the root is one that `enter` made: `/attach` and `/shares` are one tmpfs, mounted twice.
fn is_ours(root: BorrowedFd<'_>) -> bool {
    let device = |path: &str| {
        let path = path.trim_start_matches('/');
        rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_dev)
    };
    matches!((device(ATTACH), device(SHARES)), (Ok(attach), Ok(shares)) if attach == shares)
}

fn change(step: &'static str, name: &ShareName, error: Errno) -> ShareError {
    ShareError::Change {
        step,
        name: name.clone(),
        source: error.into(),
    }
}
