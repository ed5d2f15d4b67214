//! Commands that make a disk image.

use std::fs::File;
use std::io;

use serde_json::json;

use crate::cli::{DiskArguments, ImageArguments};
use crate::contents::Contents;
use crate::output::disk::Written;
use crate::output::verity;
use crate::output::whole;
use crate::tree::Tree;

use super::{CommandError, source};

/// The disk that the command line names which boots an image: the first of a guest.
const DEVICE: &str = "/dev/vda";

/// Makes a file of an image, with the file system `kind`. `write` gets the tree, where it is to go, and the date of it.
pub(super) fn make(
    arguments: &ImageArguments,
    disk: &DiskArguments,
    kind: &str,
    write: impl FnOnce((&Tree, &Contents), &File, i64) -> io::Result<Written>,
) -> Result<String, CommandError> {
    let read = source::read(arguments)?;
    let image = (&read.assembled.tree, &read.assembled.contents);
    let time = source::date_of(arguments)?;
    let made = whole::write(&disk.output, |file| {
        let written = write(image, file, time)?;
        let verity = disk.verity.then(|| verity::append(file)).transpose()?;
        Ok((written, verity))
    });
    let (written, verity) = made.map_err(|source| CommandError::Output {
        path: disk.output.clone(),
        source,
    })?;
    let mut result = json!({"file": disk.output, "written": written});
    let mut text = String::new();
    if let Some(verity) = verity {
        let command_line = verity.command_line(DEVICE, kind);
        text = format!(
            "root hash: {}\ncommand line: {command_line}\n",
            verity.root_hash
        );
        result["verity"] = json!(verity);
        result["verity"]["command_line"] = command_line.into();
    }
    Ok(read.result(arguments, result).unwrap_or(text))
}
