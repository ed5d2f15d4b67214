//! What is put into a root file system beside what its image holds: users, husk's agent, and files. They are owned by root unless
//! something else is said, and dated as the image is: what comes of it depends on contents and on nothing else.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use thiserror::Error;

use crate::accounts::{self, Account, AddError, UserError};
use crate::contents::Contents;
use crate::limits::MAX_PATH;
use crate::tar;
use crate::tree::{Attributes, Kind, NodeId, PutError, Tree};

/// Where the agent is: what the kernel runs of an initrd.
pub(crate) const INIT: &str = "/init";
const INIT_MODE: u32 = 0o755;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// What the agent mounts, where it may not be able to make directories.
const MOUNT_POINTS: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];
const MOUNT_POINT_MODE: u32 = 0o755;

/// Everything that is put into a tree, in the order in which it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Additions {
    pub(crate) users: Vec<Account>,
    /// The program that becomes `/init`.
    pub(crate) agent: Option<PathBuf>,
    pub(crate) files: Vec<Addition>,
}

/// A file that is put into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) destination: String,
    pub(crate) what: What,
    pub(crate) mode: u32,
    /// `USER[:GROUP]`, by number or by a name that the tree explains; nobody is root.
    pub(crate) owner: String,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// What is in a file of this machine.
    File(PathBuf),
    Text(String),
    Symlink(String),
    Directory,
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
    #[error("{name}: the target of a symbolic link has 1 to {MAX_PATH} bytes, none of them NUL")]
    Target { name: String },
    #[error("{name}: the owner")]
    Owner { name: String, source: UserError },
    #[error(transparent)]
    User(#[from] AddError),
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
        for user in &self.users {
            user.add(adding.tree, adding.contents, time)?;
        }
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
        let kind = Kind::File(self.contents.add(file), tar::Contents::whole(size));
        self.put(INIT, kind, self.attributes(INIT_MODE, (0, 0)))
    }

    fn file(&mut self, file: &Addition) -> Result<()> {
        let name = || file.destination.clone();
        let owner = match &*file.owner {
            "" => Ok(accounts::User::default()),
            owner => accounts::find(self.tree, self.contents, owner),
        };
        let owner = owner.map_err(|source| AdditionError::Owner {
            name: name(),
            source,
        })?;
        let attributes = self.attributes(file.mode, (owner.uid, owner.gid));
        let kind = match &file.what {
            What::File(path) => {
                let (opened, size) = open(path)?;
                Kind::File(self.contents.add(opened), tar::Contents::whole(size))
            }
            What::Text(text) => {
                let bytes = text.as_bytes().to_vec();
                let map = tar::Contents::whole(bytes.len() as u64);
                Kind::File(self.contents.add(bytes), map)
            }
            What::Symlink(target) => {
                if !(1..=MAX_PATH).contains(&target.len()) || target.contains('\0') {
                    return Err(AdditionError::Target { name: name() });
                }
                Kind::Symlink(target.as_bytes().into())
            }
            What::Directory => {
                let directory = self
                    .tree
                    .put_directory(&file.destination, attributes.clone())?;
                self.tree.set_attributes(directory, attributes);
                return Ok(());
            }
        };
        self.put(&file.destination, kind, attributes)
    }

    fn put(&mut self, name: &str, kind: Kind, attributes: Attributes) -> Result<()> {
        let put = self.tree.put(name, kind, attributes)?;
        let again = |replaced| self.added.contains(&replaced);
        if put.replaced.is_some_and(again) {
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
