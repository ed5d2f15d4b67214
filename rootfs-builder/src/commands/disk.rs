//! Commands that make a disk.

use std::fs::File;
use std::io;

use serde_json::json;

use crate::additions::{Additions, INIT};
use crate::cli::{DiskArguments, ImageArguments};
use crate::output::disk::Written;
use crate::output::verity;

use super::source::Read;
use super::{CommandError, file, source};

/// The disk that the command line names which boots an image: the first of a guest.
const DEVICE: &str = "/dev/vda";

/// Makes a disk of an image, with the file system `kind`.
pub(super) fn make(
    arguments: &ImageArguments,
    disk: &DiskArguments,
    kind: &str,
    write: impl FnOnce(&Read, &File) -> io::Result<Written>,
) -> Result<String, CommandError> {
    let mut read = source::read(Some(&arguments.image), &arguments.options)?;
    let additions = Additions::from(&disk.additions);
    let mut verity = None;
    let mut result = file::make(&mut read, &additions, &disk.output, |read, file| {
        let written = write(read, file)?;
        verity = disk.verity.then(|| verity::append(file)).transpose()?;
        Ok(written)
    })?;
    let mut text = String::new();
    if let Some(verity) = verity {
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
