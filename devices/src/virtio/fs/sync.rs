//! `FUSE_SYNCFS`: a `sync` of the guest reaches the host's disk. fuse-backend-rs ends its list of operations just before it.
//!
//! Without an answer the guest's kernel would stop asking, and stop waiting for writes that are on their way: a `sync` would
//! return too early.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fuse_backend_rs::abi::fuse_abi::{Opcode, ROOT_ID, SetxattrIn};

use super::request::{HEADER, Request};
use super::server::Options;

/// The operation: 50, where the library has the end of its list.
pub(super) const SYNCFS: Opcode = Opcode::MaxOpcode;
const _: () = assert!(SYNCFS as u32 == 50);

/// Fixed part of the request: padding (`struct fuse_syncfs_in`).
pub(super) const SYNCFS_IN: usize = size_of::<u64>();

/// Where name and value of an attribute begin.
const SETXATTR_HEADERS: usize = HEADER + size_of::<SetxattrIn>();

/// What a `sync` of the guest means.
pub(super) struct Sync {
    root: PathBuf,
    /// Name and empty value of the attribute with which a guest says that it is about to end.
    last: Vec<u8>,
    /// Whether it has said so.
    ending: bool,
}

impl Sync {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            root: PathBuf::from(&options.root),
            last: [options.last_sync.as_bytes(), b"\0"].concat(),
            ending: false,
        }
    }

    /// A new guest begins.
    pub(super) fn begin(&mut self) {
        self.ending = false;
    }

    /// Whether a `SETXATTR` says that the guest is about to end. No file gets that attribute.
    pub(super) fn is_last(&mut self, request: &Request) -> bool {
        let said = request.bytes.get(SETXATTR_HEADERS..) == Some(&self.last);
        let is_last = said && request.header.nodeid == ROOT_ID;
        self.ending |= is_last;
        is_last
    }

    /// Writes back the host's file system of one share, which is an entry of the root; the root itself stands for the entries that
    /// are files, since a guest has a file system of its own for each of the others. `path` is what the guest names. At its end
    /// it is enough that the guest's kernel has waited for its writes, which it does before it asks.
    pub(super) fn write_back(&self, path: &Path) -> io::Result<()> {
        if self.ending {
            return Ok(());
        }
        if path == self.root {
            return files(&self.root)?.iter().try_for_each(|file| syncfs(file));
        }
        if path.parent() == Some(&self.root) {
            return syncfs(path);
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// No share is a pipe or a device, but opening one would not block either.
fn syncfs(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    Ok(rustix::fs::syncfs(file)?)
}
