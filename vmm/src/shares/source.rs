//! What is shared: a directory or a file of the host, opened by path once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs};
use rustix::mount::OpenTreeFlags;

use super::mount::{Attributes, Tree};
use super::submounts::{Submount, copy_below};
use super::{ShareError, ShareName};

/// Magic numbers (`linux/magic.h`) of file systems whose files control the host's kernel or its processes.
const KERNEL_INTERFACES: &[u32] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0x0000_1cd1, // devpts
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
];

/// A directory or regular file, held open.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    fd: OwnedFd,
    directory: bool,
}

/// A share that can be put in place: its source is open.
#[derive(Debug)]
pub(crate) struct Share {
    /// Its name in the guest.
    pub(crate) name: ShareName,
    /// What is shared.
    pub(crate) source: Source,
    /// Whether the guest can only read it, and every mount that it includes.
    pub(crate) read_only: bool,
    /// Whether what the host has mounted below the source is part of it.
    pub(crate) recursive: bool,
}

/// The mounts of a share, in no namespace yet.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) tree: Tree,
    pub(super) below: Vec<Submount>,
}

impl Share {
    /// Detached copies of its mounts.
    pub(super) fn copy(&self) -> Result<Copied, ShareError> {
        Ok(Copied {
            tree: self.source.copy(self.read_only)?,
            below: match self.recursive {
                true => copy_below(&self.source, self.read_only)?,
                false => Vec::new(),
            },
        })
    }
}

impl Source {
    /// Opens `path`, a link at its end not followed.
    pub(crate) fn open(path: &Path) -> Result<Self, ShareError> {
        let failed = |error: rustix::io::Errno| ShareError::Source {
            path: path.to_owned(),
            source: error.into(),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let directory = match FileType::from_raw_mode(fstat(&fd).map_err(failed)?.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(ShareError::Kind(path.to_owned())),
        };
        let magic = fstatfs(&fd).map_err(failed)?.f_type;
        if KERNEL_INTERFACES
            .iter()
            .any(|kind| i64::from(*kind) == magic)
        {
            return Err(ShareError::KernelInterface(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            fd,
            directory,
        })
    }

    /// A detached copy of its mount, with this source as the root. Works only in the namespace in which it was opened.
    pub(crate) fn copy(&self, read_only: bool) -> Result<Tree, ShareError> {
        let failed = |error: rustix::io::Errno| ShareError::Copy {
            path: self.path.clone(),
            source: error.into(),
        };
        let flags = OpenTreeFlags::AT_EMPTY_PATH;
        let tree = Tree::copy(self.fd.as_fd(), "", flags).map_err(failed)?;
        let attributes = Attributes {
            read_only,
            no_exec: false,
        };
        tree.restrict(attributes).map_err(failed)?;
        Ok(tree)
    }

    /// The path that it was opened by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.directory
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
