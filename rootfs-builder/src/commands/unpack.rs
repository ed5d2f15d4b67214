//! `husk-rootfs unpack`.

use std::path::Path;

use serde_json::json;

use crate::cli::UnpackArguments;
use crate::output::directory;

use super::source::Read;
use super::{CommandError, source};

pub(super) fn run(arguments: &UnpackArguments) -> Result<String, CommandError> {
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    make(&read, &arguments.directory, arguments.rootless)
}

/// Writes a tree as a directory.
pub(super) fn make(read: &Read, path: &Path, rootless: bool) -> Result<String, CommandError> {
    let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
    let written = directory::write(tree, contents, path, rootless);
    let written = written.map_err(|source| CommandError::Directory {
        image: read.name(),
        source: Box::new(source),
    })?;
    let result = json!({"directory": path, "written": written});
    Ok(read.result(result).unwrap_or_default())
}
