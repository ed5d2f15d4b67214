//! Detached mounts (`open_tree`, `fsmount`, `mount_setattr`, `move_mount`).
#![expect(unsafe_code, reason = "rustix has no mount_setattr")]

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// What a mount forbids beyond `nosuid` and `nodev`, which are always set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) read_only: bool,
    pub(super) no_exec: bool,
}

/// A mount that is in no namespace's tree yet. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Tree {
    fd: OwnedFd,
}

impl Tree {
    /// Copies the mount at `path` below `base`, without those mounted further down.
    pub(super) fn copy(base: BorrowedFd<'_>, path: &str, flags: OpenTreeFlags) -> Result<Self> {
        let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let fd = open_tree(base, path, flags)?;
        Ok(Self { fd })
    }

    /// A new tmpfs with these options.
    pub(super) fn tmpfs(options: &[(&str, &str)]) -> Result<Self> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let fd = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self { fd })
    }

    /// Sets attributes, and ends propagation from and to other mounts.
    pub(super) fn restrict(&self, attributes: Attributes) -> Result<()> {
        let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        if attributes.read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        if attributes.no_exec {
            set |= libc::MOUNT_ATTR_NOEXEC;
        }
        let attr = libc::mount_attr {
            attr_set: set,
            attr_clr: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: 0,
        };
        // SAFETY: the path is a valid C string, `attr` is a valid `mount_attr` of the size that is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.fd.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attr,
                size_of::<libc::mount_attr>(),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(last_error())
        }
    }

    /// Puts it at `path`, a link at its end not followed.
    pub(super) fn place(&self, path: &str) -> Result<()> {
        self.place_at(CWD, path)
    }

    /// Puts it at `path` below `base`.
    pub(super) fn place_at(&self, base: BorrowedFd<'_>, path: &str) -> Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(self.fd.as_fd(), "", base, path, flags)
    }

    /// Puts it on what `point` is.
    pub(super) fn place_on(&self, point: BorrowedFd<'_>) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.fd.as_fd(), "", point, "", flags)
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
