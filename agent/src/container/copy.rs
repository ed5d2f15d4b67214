//! Copies the contents of a directory into another, with owners, modes and times, and never leaves either.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// Most entries that are copied.
const MAX_ENTRIES: usize = 1 << 20;

/// Deepest directory that is copied.
const MAX_DEPTH: usize = 256;

/// Why a copy is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// One of its entries.
    #[error("cannot copy {name:?}")]
    Entry {
        /// Name in its directory.
        name: CString,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than [`MAX_ENTRIES`] or deeper than [`MAX_DEPTH`].
    #[error("more than {MAX_ENTRIES} entries, or {MAX_DEPTH} directories deep")]
    TooLarge,
    /// A directory cannot be read.
    #[error("cannot read a directory")]
    Directory(#[source] Errno),
}

/// Copies what is in `from`, if that is a directory, and its owner.
pub(super) fn contents(from: &OwnedFd, to: &OwnedFd) -> Result<(), CopyError> {
    let stat = rustix::fs::fstat(from).map_err(CopyError::Directory)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let from = directory(from, c".").map_err(CopyError::Directory)?;
    let to = directory(to, c".").map_err(CopyError::Directory)?;
    let owner = (Some(owner(stat.st_uid)), Some(group(stat.st_gid)));
    rustix::fs::fchown(&to, owner.0, owner.1).map_err(CopyError::Directory)?;
    let mut entries = 0;
    let mut open = vec![(from, to, 0)];
    while let Some((from, to, depth)) = open.pop() {
        for entry in Dir::read_from(&from).map_err(CopyError::Directory)? {
            let entry = entry.map_err(CopyError::Directory)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            entries += 1;
            if entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Err(CopyError::TooLarge);
            }
            let copied = copy(&from, &to, name).map_err(|source| CopyError::Entry {
                name: name.to_owned(),
                source,
            })?;
            if let Some((from, to)) = copied {
                open.push((from, to, depth + 1));
            }
        }
    }
    Ok(())
}

fn directory(parent: &OwnedFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn owner(id: u32) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(id)
}

fn group(id: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(id)
}

/// Copies one entry; a directory is made, and returned to be gone through.
fn copy(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &std::ffi::CStr,
) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = Mode::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => rustix::fs::mkdirat(to, name, mode)?,
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        _ => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (owner(stat.st_uid), group(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), nofollow)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, name, &times(&stat), nofollow)?;
    if kind != FileType::Directory {
        return Ok(None);
    }
    Ok(Some((directory(from, name)?, directory(to, name)?)))
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat2(from.as_fd(), name, flags, Mode::empty(), beneath)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat2(to.as_fd(), name, flags, 0o600.into(), beneath)?;
    io::copy(&mut File::from(source), &mut File::from(target))?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_copied_with_modes_times_and_links() {
        let dir = std::env::temp_dir().join(format!("husk-copy-{}", std::process::id()));
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        let mode = fs::Permissions::from_mode(0o4640);
        fs::set_permissions(from.join("a/file"), mode).unwrap();
        symlink("/nowhere", from.join("a/link")).unwrap();
        let open = |path| OwnedFd::from(File::open(path).unwrap());
        contents(&open(&from), &open(&to)).unwrap();
        assert_eq!(fs::read(to.join("a/file")).unwrap(), b"text");
        let [old, new] = [&from, &to].map(|root| fs::metadata(root.join("a/file")).unwrap());
        assert_eq!(new.mode() & 0o7777, 0o4640);
        assert_eq!(old.mtime_nsec(), new.mtime_nsec());
        assert_eq!(
            fs::read_link(to.join("a/link")).unwrap().to_str(),
            Some("/nowhere")
        );
        assert!(to.join("a/b").is_dir());
        // A second time, what is there is in the way.
        let error = contents(&open(&from), &open(&to)).unwrap_err();
        assert!(matches!(error, CopyError::Entry { .. }));
        fs::remove_dir_all(dir).unwrap();
    }
}
