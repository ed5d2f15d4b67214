//! Reads a directory of this machine into a tree, without following a link or leaving the directory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use thiserror::Error;

use crate::limits::{Limits, MAX_XATTR_VALUE};
use crate::tar::{Contents, Extent};

use super::{Attributes, Kind, NodeId, Source, Tree, attributes};

/// Space for the names of the extended attributes of one file (XATTR_LIST_MAX of Linux).
const MAX_XATTR_LIST: usize = 64 << 10;

/// Why a directory cannot be read.
#[derive(Debug, Error)]
pub(crate) enum HostError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is a socket, which no image holds", path.display())]
    Socket { path: PathBuf },
    #[error("the directory has more than {0} entries (--max-entries)")]
    Entries(u64),
    #[error("the files have more than {0} bytes (--max-size)")]
    Bytes(u64),
    #[error("{} lies more than {limit} directories deep (--max-depth)", path.display())]
    Depth { path: PathBuf, limit: usize },
}

type Result<T> = std::result::Result<T, HostError>;

/// The tree of a directory; contents are read from it later, by their path below it.
pub(crate) fn read(directory: &Path, limits: &Limits) -> Result<Tree> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = fs::open(directory, flags, Mode::empty()).map_err(failed(directory))?;
    let mut tree = Tree::new(0);
    let stat = fs::fstat(&root).map_err(failed(directory))?;
    tree.nodes[Tree::ROOT].attributes =
        metadata(root.as_fd(), c".", &stat).map_err(failed(directory))?;
    let mut scan = Scan {
        tree,
        limits,
        entries: 0,
        bytes: 0,
        seen: HashMap::new(),
    };
    scan.directory(&root, Tree::ROOT, Path::new(""), 1)?;
    Ok(scan.tree)
}

fn failed<E: Into<io::Error>>(path: &Path) -> impl Fn(E) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Read {
        path: path.clone(),
        source: source.into(),
    }
}

struct Scan<'a> {
    tree: Tree,
    limits: &'a Limits,
    entries: u64,
    bytes: u64,
    /// Files with several names, by device and inode.
    seen: HashMap<(u64, u64), NodeId>,
}

impl Scan<'_> {
    fn directory(&mut self, fd: &OwnedFd, id: NodeId, path: &Path, depth: usize) -> Result<()> {
        if depth > self.limits.max_depth {
            return Err(HostError::Depth {
                path: path.to_owned(),
                limit: self.limits.max_depth,
            });
        }
        // Sorted, so that nodes have the same numbers whatever order the file system has.
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(fd).map_err(failed(path))? {
            let entry = entry.map_err(failed(path))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
            if names.len() as u64 > self.limits.max_entries {
                return Err(HostError::Entries(self.limits.max_entries));
            }
        }
        names.sort_unstable();
        for name in names {
            self.entry(fd, id, &name, path, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        fd: &OwnedFd,
        above: NodeId,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            return Err(HostError::Entries(self.limits.max_entries));
        }
        let stat = fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(&path))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let several = stat.st_nlink > 1 && kind != FileType::Directory;
        if let Some(known) = self
            .seen
            .get(&(stat.st_dev, stat.st_ino))
            .filter(|_| several)
        {
            self.tree.link(above, name.to_bytes(), *known, 0);
            return Ok(());
        }
        let attributes = metadata(fd.as_fd(), name, &stat).map_err(failed(&path))?;
        let kind = self.kind(fd, name, &path, &stat)?;
        let directory = matches!(kind, Kind::Directory(_));
        let node = self.tree.add(kind, attributes, 0);
        self.tree.link(above, name.to_bytes(), node, 0);
        if several {
            self.seen.insert((stat.st_dev, stat.st_ino), node);
        }
        if directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
            let below = fs::openat(fd, name, flags, Mode::empty()).map_err(failed(&path))?;
            self.directory(&below, node, &path, depth + 1)?;
        }
        Ok(())
    }

    fn kind(&mut self, fd: &OwnedFd, name: &CStr, path: &Path, stat: &Stat) -> Result<Kind> {
        let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory(BTreeMap::new()),
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                let contents = extents(fd, name, size).map_err(failed(path))?;
                self.bytes += contents
                    .data
                    .iter()
                    .map(|extent| extent.length)
                    .sum::<u64>();
                if self.bytes > self.limits.max_size || size > self.limits.max_size {
                    return Err(HostError::Bytes(self.limits.max_size));
                }
                Kind::File(Source::Host(path.to_owned()), contents)
            }
            FileType::Symlink => {
                let target = fs::readlinkat(fd, name, Vec::new()).map_err(failed(path))?;
                Kind::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            _ => {
                return Err(HostError::Socket {
                    path: path.to_owned(),
                });
            }
        })
    }
}

/// Where the data of a file is; what the file system knows to be holes is left out.
fn extents(fd: &OwnedFd, name: &CStr, size: u64) -> io::Result<Contents> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(fd, name, flags, Mode::empty())?;
    let (mut data, mut at) = (Vec::new(), 0);
    while at < size {
        let offset = match fs::seek(&file, fs::SeekFrom::Data(at)) {
            Ok(offset) if offset < size => offset,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = fs::seek(&file, fs::SeekFrom::Hole(offset))?.min(size);
        if end <= offset {
            break;
        }
        data.push(Extent {
            offset,
            stored: offset,
            length: end - offset,
        });
        at = end;
    }
    Ok(Contents { size, data })
}

fn metadata(fd: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<Attributes> {
    Ok(Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        ),
        xattrs: xattrs(fd, name)?,
    })
}

/// The extended attributes of a file that an image can have; those of the host's own security modules stay here.
fn xattrs(fd: BorrowedFd<'_>, name: &CStr) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    use std::os::fd::AsRawFd as _;
    let mut path = format!("/proc/self/fd/{}/", fd.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let path = Path::new(OsStr::from_bytes(&path));
    let mut list = vec![0_u8; MAX_XATTR_LIST];
    let length = match fs::llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; MAX_XATTR_VALUE];
        let length = fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        if name != b"security.selinux" && attributes::check_xattr(name, &value).is_ok() {
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}
