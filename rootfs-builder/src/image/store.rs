//! Files of an image by name: below a directory, or in a tar archive. What is read is verified by who reads it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};

use crate::limits::MAX_BLOBS;
use crate::tar::{EntryKind, Reader, TarError};

/// Links from name to name in an archive, as old versions of `docker save` write them for layers that are the same.
const MAX_ALIASES: usize = 8;

/// Content, and how many bytes it will have, where that is known.
pub(crate) type Content = (Box<dyn Read + Send>, Option<u64>);

/// Somewhere that the files of an image are.
pub(crate) trait Store: Send + Sync {
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Content>;
}

/// A directory. Symbolic links in it are not followed: a name leads to the file of that name or to none.
pub(crate) struct Directory(OwnedFd);

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }
}

impl Store for Directory {
    fn open(&self, name: &str) -> io::Result<Content> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Without waiting for the other end of a FIFO.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(fs::openat2(&self.0, name, flags, Mode::empty(), resolve)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok((Box::new(file), Some(metadata.len())))
    }
}

/// One file, whatever name is asked for.
pub(crate) struct SingleFile(pub(crate) PathBuf);

impl Store for SingleFile {
    fn open(&self, _name: &str) -> io::Result<Content> {
        let file = File::open(&self.0)?;
        let length = file.metadata()?.len();
        Ok((Box::new(file), Some(length)))
    }
}

/// A tar archive, whose entries are found once.
pub(crate) struct Archive {
    file: Arc<File>,
    entries: HashMap<String, Place>,
}

enum Place {
    At { start: u64, length: u64 },
    Alias(String),
}

impl Archive {
    /// Finds the entries of an archive of `length` bytes.
    pub(crate) fn open(file: File, length: u64) -> Result<Self, TarError> {
        let mut entries = HashMap::new();
        let mut reader = Reader::new(&file, length);
        while let Some(entry) = reader.next()? {
            let Ok(name) = String::from_utf8(entry.name) else {
                continue;
            };
            let name = joined("", &name);
            let place = match entry.kind {
                EntryKind::File(contents) if contents.data.len() <= 1 => {
                    let start = contents.data.first().map_or(0, |extent| extent.stored);
                    Place::At {
                        start,
                        length: contents.size,
                    }
                }
                EntryKind::Symlink(target) => match String::from_utf8(target) {
                    Ok(target) => Place::Alias(joined(&name, &target)),
                    Err(_) => continue,
                },
                EntryKind::HardLink(target) => match String::from_utf8(target) {
                    Ok(target) => Place::Alias(joined("", &target)),
                    Err(_) => continue,
                },
                _ => continue,
            };
            entries.insert(name, place);
            if entries.len() > MAX_BLOBS {
                return Err(TarError::TooManyEntries(MAX_BLOBS));
            }
        }
        Ok(Self {
            file: Arc::new(file),
            entries,
        })
    }
}

/// A name as the map has it: `target` as seen from beside the file `from`, without `.` and `..`.
fn joined(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match from.rsplit_once('/') {
        Some((above, _)) if !target.starts_with('/') => above.split('/').collect(),
        _ => Vec::new(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Store for Archive {
    fn open(&self, name: &str) -> io::Result<Content> {
        let mut name = name;
        for _ in 0..=MAX_ALIASES {
            match self.entries.get(name) {
                Some(Place::At { start, length }) => {
                    let file = Arc::clone(&self.file);
                    let section = Section {
                        file,
                        at: *start,
                        end: start + length,
                    };
                    return Ok((Box::new(section), Some(*length)));
                }
                Some(Place::Alias(target)) => name = target,
                None => break,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "not in the archive",
        ))
    }
}

/// A part of a file, read without moving the file's own position.
struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_archives_are_normal() {
        assert_eq!(joined("", "./a//b"), "a/b");
        assert_eq!(joined("", "/a"), "a");
        assert_eq!(joined("x/layer.tar", "../y/layer.tar"), "y/layer.tar");
        assert_eq!(joined("x/l", "../../../../etc/passwd"), "etc/passwd");
    }

    #[test]
    fn a_directory_gives_no_file_outside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::write(dir.path().join("in/file"), "12").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("in/link")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("in/inner")).unwrap();
        let store = Directory::open(&dir.path().join("in")).unwrap();
        assert_eq!(store.open("file").unwrap().1, Some(2));
        for name in ["link", "inner", "../secret", "/etc/passwd", "none", "."] {
            assert!(store.open(name).is_err(), "{name}");
        }
    }
}
