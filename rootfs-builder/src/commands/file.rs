//! Commands that make a file of a tree: a disk or an initrd.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::additions::Additions;
use crate::digest::Digest;
use crate::output::whole;

use super::CommandError;
use super::source::Read;

/// Puts the additions into a tree and makes the file `output` of it, with what `write` writes. Tells of it as JSON.
pub(super) fn make<T: Serialize>(
    read: &mut Read,
    additions: &Additions,
    output: &Path,
    write: impl FnOnce(&Read, &File) -> io::Result<T>,
) -> Result<Value, CommandError> {
    let (tree, contents) = (&mut read.assembled.tree, &mut read.assembled.contents);
    additions.apply(tree, contents, read.time)?;
    let read = &*read;
    let made = whole::write(output, |file| {
        let written = write(read, file)?;
        let mut result = json!({"file": output, "written": written});
        if read.json {
            let (digest, size) = Digest::of_file(file)?;
            result["digest"] = digest.to_string().into();
            result["size"] = size.into();
        }
        Ok(result)
    });
    made.map_err(|source| CommandError::Output {
        path: output.to_owned(),
        source,
    })
}
