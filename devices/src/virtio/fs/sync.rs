//! `FUSE_SYNCFS`: a `sync` of the guest reaches the host's disk. fuse-backend-rs ends its list of operations just before it.
//!
//! Without an answer the guest's kernel would stop asking, and stop waiting for writes that are on their way: a `sync` would
//! return too early.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fuse_backend_rs::abi::fuse_abi::Opcode;

/// The operation: 50, where the library has the end of its list.
pub(super) const SYNCFS: Opcode = Opcode::MaxOpcode;
const _: () = assert!(SYNCFS as u32 == 50);

/// Fixed part of the request: padding (`struct fuse_syncfs_in`).
pub(super) const SYNCFS_IN: usize = size_of::<u64>();

/// Writes back the host's file system of one share, which is an entry of `root`; `root` itself stands for the entries that are
/// files, since a guest has a file system of its own for each of the others. `path` is what the guest names.
pub(super) fn sync(root: &Path, path: &Path) -> io::Result<()> {
    if path == root {
        return files(root)?.iter().try_for_each(|file| write_back(file));
    }
    if path.parent() == Some(root) {
        return write_back(path);
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
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
fn write_back(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    Ok(rustix::fs::syncfs(file)?)
}
