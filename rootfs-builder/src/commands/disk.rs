//! Commands that make a disk.

use std::path::Path;

use serde_json::json;

use crate::additions::{Additions, INIT};
use crate::output::verity;
use crate::output::{erofs, ext4};

use super::source::Read;
use super::{CommandError, file};

/// The disk that the command line names which boots an image: the first of a guest.
const DEVICE: &str = "/dev/vda";

/// A disk that is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk<'a> {
    pub(super) file_system: FileSystem,
    /// Whether a tree of hashes is behind it.
    pub(super) verity: bool,
    pub(super) output: &'a Path,
}

/// What is on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileSystem {
    Erofs { compress: bool },
    Ext4 { free: u64 },
}

/// Makes a disk of a tree and of what is put into it.
pub(super) fn make(
    mut read: Read,
    additions: &Additions,
    disk: &Disk<'_>,
) -> Result<String, CommandError> {
    read.add(additions)?;
    let mut verity = None;
    let mut result = file::make(&read, disk.output, |file| {
        let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
        let time = read.time;
        let written = match disk.file_system {
            FileSystem::Erofs { compress } => {
                erofs::write(tree, contents, file, erofs::Options { compress, time })
            }
            FileSystem::Ext4 { free } => {
                ext4::write(tree, contents, file, ext4::Options { free, time })
            }
        }?;
        verity = disk.verity.then(|| verity::append(file)).transpose()?;
        Ok(written)
    })?;
    let mut text = String::new();
    if let Some(verity) = verity {
        let kind = match disk.file_system {
            FileSystem::Erofs { .. } => "erofs",
            FileSystem::Ext4 { .. } => "ext4",
        };
        let mut command_line = verity.command_line(DEVICE, kind);
        if additions.agent.is_some() {
            command_line = format!("{command_line} init={INIT}");
        }
        text = format!(
            "root hash: {}\ncommand line: {command_line}\n",
            verity.root_hash
        );
        result["verity"] = json!(verity);
        result["verity"]["command_line"] = command_line.into();
    }
    Ok(read.result(result).unwrap_or(text))
}
