//! Commands that make a file of a tree: a disk or an initrd.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::output::whole;

use super::CommandError;
use super::source::Read;

/// Makes the file `output` with what `write` writes of a tree. Tells of it as JSON.
pub(super) fn make<T: Serialize>(
    read: &Read,
    output: &Path,
    write: impl FnOnce(&File) -> io::Result<T>,
) -> Result<Value, CommandError> {
    let made = whole::write(output, |file| {
        let mut result = json!({"file": output, "written": write(file)?});
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
