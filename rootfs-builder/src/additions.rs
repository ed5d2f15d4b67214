//! What is put into a root file system beside what its image holds: husk's agent, and files of this machine. They are owned by
//! root unless something else is said, and dated as the image is: what comes of it depends on contents and on nothing else.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use thiserror::Error;

use crate::contents::Contents;
use crate::tar;
use crate::tree::{Attributes, Kind, NodeId, PutError, Tree};

/// Where the agent is: what the kernel runs of an initrd.
pub(crate) const INIT: &str = "/init";
const INIT_MODE: u32 = 0o755;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// What the agent mounts, where it may not be able to make directories.
const MOUNT_POINTS: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];
const MOUNT_POINT_MODE: u32 = 0o755;

/// Everything that is put into a tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Additions {
    /// The program that becomes `/init`.
    pub(crate) agent: Option<PathBuf>,
    pub(crate) files: Vec<Addition>,
}

/// A file that is put into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) source: PathBuf,
    pub(crate) destination: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

/// Why something cannot be put into a tree.
#[derive(Debug, Error)]
pub(crate) enum AdditionError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("agent {} is not an ELF program", path.display())]
    NotAProgram { path: PathBuf },
    #[error("{name} would be there twice")]
    Duplicate { name: String },
    #[error(transparent)]
    Put(#[from] PutError),
}

type Result<T> = std::result::Result<T, AdditionError>;

impl Additions {
    /// Puts everything into a tree. `time` is the date of what is put there.
    pub(crate) fn apply(&self, tree: &mut Tree, contents: &mut Contents, time: i64) -> Result<()> {
        let mut adding = Adding {
            tree,
            contents,
            time,
            added: HashSet::new(),
        };
        if let Some(agent) = &self.agent {
            adding.agent(agent)?;
        }
        self.files.iter().try_for_each(|file| adding.file(file))
    }
}

struct Adding<'a> {
    tree: &'a mut Tree,
    contents: &'a mut Contents,
    time: i64,
    added: HashSet<NodeId>,
}

impl Adding<'_> {
    fn agent(&mut self, path: &Path) -> Result<()> {
        let failed = |source| AdditionError::Read {
            path: path.to_owned(),
            source,
        };
        let (file, size) = open(path)?;
        let mut magic = [0; ELF_MAGIC.len()];
        let read = file.read_at(&mut magic, 0).map_err(failed)?;
        if &magic[..read] != ELF_MAGIC {
            return Err(AdditionError::NotAProgram {
                path: path.to_owned(),
            });
        }
        for name in MOUNT_POINTS {
            let attributes = self.attributes(MOUNT_POINT_MODE, (0, 0));
            self.tree.put_directory(name, attributes)?;
        }
        self.put(INIT, (file, size), self.attributes(INIT_MODE, (0, 0)))
    }

    fn file(&mut self, file: &Addition) -> Result<()> {
        let attributes = self.attributes(file.mode, file.owner);
        self.put(&file.destination, open(&file.source)?, attributes)
    }

    fn put(&mut self, name: &str, file: (File, u64), attributes: Attributes) -> Result<()> {
        let kind = Kind::File(self.contents.add(file.0), tar::Contents::whole(file.1));
        let put = self.tree.put(name, kind, attributes)?;
        if put
            .replaced
            .is_some_and(|replaced| self.added.contains(&replaced))
        {
            let name = name.to_owned();
            return Err(AdditionError::Duplicate { name });
        }
        self.added.insert(put.node);
        Ok(())
    }

    fn attributes(&self, mode: u32, owner: (u32, u32)) -> Attributes {
        Attributes {
            mode,
            uid: owner.0,
            gid: owner.1,
            mtime: (self.time, 0),
            ..Attributes::default()
        }
    }
}

/// A regular file and its length; of what else may be there nothing is waited for.
fn open(path: &Path) -> Result<(File, u64)> {
    let failed = |source| AdditionError::Read {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::open(path, flags, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(AdditionError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok((file, metadata.len()))
}
