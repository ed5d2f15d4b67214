//! Commands that make a disk image.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::json;

use crate::cli::ImageArguments;
use crate::contents::Contents;
use crate::output::disk::Written;
use crate::output::whole;
use crate::tree::Tree;

use super::{CommandError, source};

/// Makes the file `output` of an image. `write` gets its tree, where that is to go, and the date of it.
pub(super) fn make(
    arguments: &ImageArguments,
    output: &Path,
    write: impl FnOnce((&Tree, &Contents), &File, i64) -> io::Result<Written>,
) -> Result<String, CommandError> {
    let read = source::read(arguments)?;
    let image = (&read.assembled.tree, &read.assembled.contents);
    let time = source::date_of(arguments)?;
    let written = whole::write(output, |file| write(image, file, time));
    let written = written.map_err(|source| CommandError::Output {
        path: output.to_owned(),
        source,
    })?;
    Ok(read.result(arguments, json!({"file": output, "written": written})))
}
