//! A directory: the tree itself and nothing beside it.
//!
//! Every file is made by name in a directory that this program opened when it made it; nothing that exists is opened by path.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use thiserror::Error;

use crate::contents::Contents;
use crate::tree::{Attributes, Kind, NodeId, Tree};

use super::whole;

/// Attributes that only the administrator of the machine may give.
const PRIVILEGED: [&[u8]; 2] = [b"trusted.", b"security."];

/// Why a directory could not be made.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    #[error(transparent)]
    Whole(#[from] whole::DirectoryError),
    #[error("cannot write /{name}")]
    Write { name: String, source: io::Error },
    #[error("cannot set {what} of /{name}")]
    Attribute {
        name: String,
        what: String,
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, DirectoryError>;

/// What was made.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Written {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Devices and privileged attributes that were left out, and files whose owner is another than in the image.
    pub(crate) devices_left_out: u64,
    pub(crate) attributes_left_out: u64,
}

/// Writes a tree as the directory `path`, which must not exist or be empty. `rootless` leaves out what only root may do.
pub(crate) fn write(
    tree: &Tree,
    contents: &Contents,
    path: &Path,
    rootless: bool,
) -> Result<Written> {
    whole::directory(path, |made| {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = fs::open(made, flags, Mode::empty());
        let root = root.map_err(|error| whole::DirectoryError::Make {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let mut writer = Writer {
            tree,
            contents,
            root,
            rootless,
            first: vec![None; tree.len()],
            written: Written::default(),
        };
        writer.tree()?;
        Ok(writer.written)
    })
}

/// What was made, open where it can be.
enum Made {
    Directory(OwnedFd),
    File(File),
    Symlink,
    Special,
}

struct Writer<'a> {
    tree: &'a Tree,
    contents: &'a Contents,
    root: OwnedFd,
    rootless: bool,
    /// The first name of each file that has several.
    first: Vec<Option<PathBuf>>,
    written: Written,
}

impl Writer<'_> {
    fn tree(&mut self) -> Result<()> {
        let root = self.root.try_clone();
        let root = root.map_err(|source| DirectoryError::Write {
            name: String::new(),
            source,
        })?;
        self.directory(&root, Tree::ROOT, Path::new(""))
    }

    /// Fills a directory, then gives it its attributes: its date is that of the image, and it may forbid to write.
    fn directory(&mut self, fd: &OwnedFd, id: NodeId, path: &Path) -> Result<()> {
        let tree = self.tree;
        for (name, node) in tree.names(id) {
            let name = OsStr::from_bytes(name);
            self.entry(fd, name, node, &path.join(name))?;
        }
        self.attributes(fd, &tree.node(id).attributes, path)
    }

    fn entry(&mut self, fd: &OwnedFd, name: &OsStr, id: NodeId, path: &Path) -> Result<()> {
        let node = self.tree.node(id);
        let failed = |source| DirectoryError::Write {
            name: path.display().to_string(),
            source,
        };
        if let Some(first) = &self.first[id] {
            return self.hard_link(first, fd, name).map_err(failed);
        }
        if self.rootless
            && matches!(
                node.kind,
                Kind::CharDevice { .. } | Kind::BlockDevice { .. }
            )
        {
            self.written.devices_left_out += 1;
            return Ok(());
        }
        self.written.files += 1;
        match self.make(fd, name, &node.kind).map_err(failed)? {
            Made::Directory(made) => self.directory(&made, id, path)?,
            Made::File(file) => self.attributes(&file, &node.attributes, path)?,
            Made::Symlink => self.attributes_by_name(fd, name, &node.attributes, path)?,
            Made::Special => {
                self.attributes_by_name(fd, name, &node.attributes, path)?;
                let mode = Mode::from_raw_mode(node.attributes.mode);
                // No link is there to be followed: it was made a line above, in a directory of our own.
                let set = fs::chmodat(fd, name, mode, AtFlags::empty());
                set.map_err(attribute_failed(path, "the mode"))?;
            }
        }
        if node.links > 1 {
            self.first[id] = Some(path.to_owned());
        }
        Ok(())
    }

    /// Makes a file that was not there, with what it holds, for nobody but its owner so far.
    fn make(&mut self, fd: &OwnedFd, name: &OsStr, kind: &Kind) -> io::Result<Made> {
        let private = Mode::RUSR | Mode::WUSR;
        Ok(match kind {
            Kind::Directory(_) => {
                fs::mkdirat(fd, name, private | Mode::XUSR)?;
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
                Made::Directory(fs::openat(fd, name, flags, Mode::empty())?)
            }
            Kind::File(source, map) => {
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::WRONLY
                    | OFlags::CLOEXEC;
                let file = File::from(fs::openat(fd, name, flags, private)?);
                self.contents.pieces(source, map, |offset, bytes| {
                    self.written.bytes += bytes.len() as u64;
                    file.write_all_at(bytes, offset)
                })?;
                file.set_len(map.size)?;
                Made::File(file)
            }
            Kind::Symlink(target) => {
                fs::symlinkat(OsStr::from_bytes(target), fd, name)?;
                Made::Symlink
            }
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {
                let (kind, device) = special(kind);
                fs::mknodat(fd, name, kind, private, device)?;
                Made::Special
            }
        })
    }

    /// Another name for a file. Its first one is looked up from the root, through directories alone.
    fn hard_link(&self, first: &Path, fd: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let (above, file) = (first.parent(), first.file_name());
        let file = file.ok_or(io::ErrorKind::InvalidInput)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = above
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let above = fs::openat2(&self.root, above, flags, Mode::empty(), resolve)?;
        Ok(fs::linkat(&above, file, fd, name, AtFlags::empty())?)
    }

    fn attributes(&mut self, fd: impl AsFd, attributes: &Attributes, path: &Path) -> Result<()> {
        if !self.rootless {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            fs::fchown(&fd, Some(uid), Some(gid)).map_err(attribute_failed(path, "the owner"))?;
        }
        for (name, value) in &attributes.xattrs {
            if !self.leave_out(name) {
                let set = fs::fsetxattr(&fd, OsStr::from_bytes(name), value, XattrFlags::empty());
                set.map_err(attribute_failed(path, &String::from_utf8_lossy(name)))?;
            }
        }
        // After the owner, whose change takes setuid away.
        let mode = Mode::from_raw_mode(attributes.mode);
        fs::fchmod(&fd, mode).map_err(attribute_failed(path, "the mode"))?;
        fs::futimens(&fd, &times(attributes)).map_err(attribute_failed(path, "the date"))
    }

    /// The same for what cannot be opened; a mode is not among it, which symbolic links do not have.
    fn attributes_by_name(
        &mut self,
        fd: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
        path: &Path,
    ) -> Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if !self.rootless {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            let changed = fs::chownat(fd, name, Some(uid), Some(gid), nofollow);
            changed.map_err(attribute_failed(path, "the owner"))?;
        }
        let by_path = Path::new("/proc/self/fd")
            .join(fd.as_raw_fd().to_string())
            .join(name);
        for (attribute, value) in &attributes.xattrs {
            if !self.leave_out(attribute) {
                let set = fs::lsetxattr(
                    &by_path,
                    OsStr::from_bytes(attribute),
                    value,
                    XattrFlags::empty(),
                );
                set.map_err(attribute_failed(path, &String::from_utf8_lossy(attribute)))?;
            }
        }
        let set = fs::utimensat(fd, name, &times(attributes), nofollow);
        set.map_err(attribute_failed(path, "the date"))
    }

    /// Whether an attribute is one that this program may not set here; if so, counts it.
    fn leave_out(&mut self, name: &[u8]) -> bool {
        let leave = self.rootless && PRIVILEGED.iter().any(|prefix| name.starts_with(prefix));
        self.written.attributes_left_out += u64::from(leave);
        leave
    }
}

fn special(kind: &Kind) -> (FileType, fs::Dev) {
    match *kind {
        Kind::CharDevice { major, minor } => (FileType::CharacterDevice, fs::makedev(major, minor)),
        Kind::BlockDevice { major, minor } => (FileType::BlockDevice, fs::makedev(major, minor)),
        _ => (FileType::Fifo, 0),
    }
}

fn times(attributes: &Attributes) -> Timestamps {
    let (seconds, nanoseconds) = attributes.mtime;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn attribute_failed(path: &Path, what: &str) -> impl Fn(rustix::io::Errno) -> DirectoryError {
    let (name, what) = (path.display().to_string(), what.to_owned());
    move |source| DirectoryError::Attribute {
        name: name.clone(),
        what: what.clone(),
        source: source.into(),
    }
}
