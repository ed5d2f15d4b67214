//! What is mounted below a shared directory, for shares that include it (`rbind`).
//!
//! A recursive copy of the mounts would bring procfs and the like with it, and nothing can be unmounted from a detached tree. So
//! each mount is found in the mount table, judged and copied by itself, and put back in place one by one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

use super::ShareError;
use super::mount::Tree;
use super::source::Source;

/// Most mounts below one share.
const MAX_SUBMOUNTS: usize = 1024;

/// A mount below a share: where, seen from the share, and its copy.
#[derive(Debug)]
pub(super) struct Submount {
    place: PathBuf,
    tree: Tree,
}

impl Submount {
    /// Puts it at its place below `share`, the root of a mount of this namespace. Links are not followed.
    pub(super) fn put(&self, share: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let point = openat2(share, &self.place, flags, Mode::empty(), resolve)?;
        self.tree.place_on(point.as_fd())
    }
}

/// Copies what is mounted below `source`, outer mounts first. File systems that control the kernel, whatever is below them, and
/// what root may not use (a user's FUSE) are left out.
pub(super) fn copy_below(source: &Source, read_only: bool) -> Result<Vec<Submount>, ShareError> {
    let failed = |error: io::Error| ShareError::Copy {
        path: source.path().to_owned(),
        source: error,
    };
    let link = format!("/proc/self/fd/{}", source.as_fd().as_raw_fd());
    let top = fs::read_link(link).map_err(failed)?;
    let table = fs::read("/proc/thread-self/mountinfo").map_err(failed)?;
    let mut candidates: Vec<Entry> = parse(&table)
        .filter(|entry| entry.point.starts_with(&top) && entry.point != top)
        .collect();
    candidates.sort_by_key(|entry| entry.point.components().count());
    let (mut left_out, mut copies) = (Vec::<PathBuf>::new(), Vec::new());
    for Entry { id, point } in candidates {
        if left_out.iter().any(|path| point.starts_with(path)) {
            continue;
        }
        match Source::open(&point) {
            // Another mount hides this one, or it has just gone.
            Ok(found) if mount_id(&found) != Some(id) => continue,
            Ok(found) => copies.push(Submount {
                tree: found.copy(read_only)?,
                place: point.strip_prefix(&top).unwrap_or(&point).to_owned(),
            }),
            Err(_) => left_out.push(point),
        }
        if copies.len() > MAX_SUBMOUNTS {
            return Err(ShareError::TooManyMounts(source.path().to_owned()));
        }
    }
    Ok(copies)
}

fn mount_id(source: &Source) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat = statx(source.as_fd(), "", flags, StatxFlags::MNT_ID).ok()?;
    Some(stat.stx_mnt_id)
}

/// A line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    point: PathBuf,
}

fn parse(table: &[u8]) -> impl Iterator<Item = Entry> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let point = unescape(fields.nth(3)?);
        Some(Entry { id, point })
    })
}

/// The table writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(value) if byte == b'\\' => {
                bytes.push(value);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Path::new(&OsString::from_vec(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_with_its_escapes() {
        let table =
            b"29 1 0:26 / / rw - ext4 /dev/x rw\n31 29 0:28 / /a\\040b\\134 rw - proc p rw\nx\n";
        let entries: Vec<Entry> = parse(table).collect();
        assert_eq!(entries[0].point, Path::new("/"));
        assert_eq!(
            (entries[1].id, entries[1].point.to_str()),
            (31, Some("/a b\\"))
        );
        assert_eq!(entries.len(), 2);
        assert_eq!(unescape(b"\\9"), Path::new("\\9"));
    }
}
