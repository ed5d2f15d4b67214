//! An initrd: the agent as `/init`, and the extra files that were asked for with the directories above them.
//!
//! The kernel's own built-in archive has `/dev` and `/dev/console` already; everything else is mounted by the agent.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cli::InitrdArguments;
use crate::cpio::{self, Entry};

use super::whole;

/// Largest file that is packed: an initrd is unpacked into the guest's memory, and a larger one is a mistake.
const MAX_FILE_SIZE: u64 = 256 << 20;

/// Longest name in the archive; the kernel ignores entries whose name exceeds PATH_MAX, its NUL included.
const MAX_NAME_LEN: usize = 4095;

const INIT: &str = "init";
const INIT_MODE: u32 = 0o755;
const DIRECTORY_MODE: u32 = 0o755;
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Why an initrd could not be made.
#[derive(Debug, Error)]
pub(crate) enum InitrdError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} has more than {MAX_FILE_SIZE} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("agent {} is not an ELF program", path.display())]
    NotAProgram { path: PathBuf },
    #[error(
        "destination '{name}' is not an absolute path of plain names, at most {MAX_NAME_LEN} bytes long"
    )]
    BadName { name: String },
    #[error("/{name} would be in the initrd twice")]
    Duplicate { name: String },
    #[error("/{name} would be both a file and a directory")]
    FileAndDirectory { name: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

type Result<T> = std::result::Result<T, InitrdError>;

/// Makes the initrd that the arguments describe.
pub(crate) fn build(arguments: &InitrdArguments) -> Result<()> {
    let mut tree = Tree::default();
    let agent = read(&arguments.agent)?;
    if !agent.starts_with(ELF_MAGIC) {
        return Err(InitrdError::NotAProgram {
            path: arguments.agent.clone(),
        });
    }
    tree.add_file(INIT, INIT_MODE, agent)?;
    for file in &arguments.files {
        let name = checked_name(&file.destination)?;
        tree.add_file(name, file.mode, read(&file.source)?)?;
    }
    let failed = |source| InitrdError::Write {
        path: arguments.output.clone(),
        source,
    };
    let archive = tree.archive().map_err(failed)?;
    whole::write(&arguments.output, |file| {
        arguments.compress.write(&archive, file)
    })
    .map_err(failed)
}

/// The content of a regular file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| InitrdError::Read {
        path: path.to_owned(),
        source,
    };
    // The type first: opening a FIFO would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(InitrdError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if u64::try_from(content.len()).is_ok_and(|len| len > MAX_FILE_SIZE) {
        return Err(InitrdError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

/// A destination without its leading slash.
fn checked_name(destination: &str) -> Result<&str> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    destination
        .strip_prefix('/')
        .filter(|name| name.len() <= MAX_NAME_LEN && name.split('/').all(plain))
        .ok_or_else(|| InitrdError::BadName {
            name: destination.to_owned(),
        })
}

/// The content of an initrd by name. The map is sorted, so a directory comes before what is in it.
#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

enum Node {
    Directory,
    File { mode: u32, content: Vec<u8> },
}

impl Tree {
    fn add_file(&mut self, name: &str, mode: u32, content: Vec<u8>) -> Result<()> {
        for (end, _) in name.match_indices('/') {
            self.add_directory(&name[..end])?;
        }
        match self.0.entry(name.to_owned()) {
            Slot::Vacant(slot) => {
                slot.insert(Node::File { mode, content });
                Ok(())
            }
            Slot::Occupied(slot) => Err(match slot.get() {
                Node::Directory => InitrdError::FileAndDirectory {
                    name: name.to_owned(),
                },
                Node::File { .. } => InitrdError::Duplicate {
                    name: name.to_owned(),
                },
            }),
        }
    }

    fn add_directory(&mut self, name: &str) -> Result<()> {
        match self.0.entry(name.to_owned()).or_insert(Node::Directory) {
            Node::Directory => Ok(()),
            Node::File { .. } => Err(InitrdError::FileAndDirectory {
                name: name.to_owned(),
            }),
        }
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let mut writer = cpio::Writer::new(Vec::new());
        for (name, node) in &self.0 {
            let entry = match node {
                Node::Directory => Entry::Directory {
                    mode: DIRECTORY_MODE,
                },
                Node::File { mode, content } => Entry::File {
                    mode: *mode,
                    content,
                },
            };
            writer.add(name, entry)?;
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests;
