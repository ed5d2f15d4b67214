//! Paths inside a container's root, from outside of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory as a root for [`open`].
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// How often a path is tried in which another process mounts or renames: openat2(2) gives up at a `..` then.
const TRIES: usize = 64;

/// A path below it; no link leads out of `root`.
pub(super) fn open(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_with(root.as_fd(), path, OFlags::empty())
}

/// A directory below it.
pub(super) fn open_directory(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_with(root.as_fd(), path, OFlags::DIRECTORY)
}

fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let attempt = || rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let mut opened = attempt();
    for _ in 1..TRIES {
        if opened.as_ref().err() != Some(&Errno::AGAIN) {
            break;
        }
        opened = attempt();
    }
    opened
}

/// Most links that are followed in one path.
const MAX_LINKS: usize = 40;

/// Where a path leads whose last links lead to nothing, which libcontainer would not make.
pub(super) fn dangling(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = open_root(root).ok()?;
    let missing = open(&root, path).err() == Some(Errno::NOENT);
    let mut left: Vec<_> = components(path);
    let mut reached = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop().filter(|_| missing) {
        if name == ".." {
            reached.pop();
            continue;
        }
        let link = open(&root, &reached)
            .and_then(|parent| rustix::fs::readlinkat(parent, name.as_os_str(), Vec::new()));
        let Ok(link) = link else {
            reached.push(name);
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let link = PathBuf::from(OsStr::from_bytes(link.to_bytes()));
        if link.is_absolute() {
            reached = PathBuf::from("/");
        }
        left.extend(components(&link));
    }
    (links > 0).then_some(reached)
}

/// Names and `..`, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    let parts = parts.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_leads_to_where_it_stays_inside() {
        let dir = std::env::temp_dir().join(format!("husk-dangling-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        for (name, target) in [
            ("etc/up", "../../../foo/bar"),
            ("etc/absolute", "/etc/up"),
            ("etc/here", "."),
            ("etc/loop", "loop"),
        ] {
            std::os::unix::fs::symlink(target, dir.join(name)).unwrap();
        }
        let found = |path: &str| dangling(&dir, Path::new(path));
        assert_eq!(found("/etc/up"), Some("/foo/bar".into()));
        assert_eq!(found("/etc/absolute/x"), Some("/foo/bar/x".into()));
        assert_eq!(found("/etc/new"), None);
        assert_eq!(found("/etc/here"), None);
        assert_eq!(found("/etc/loop"), None);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
