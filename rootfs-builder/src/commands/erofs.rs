//! `husk-rootfs erofs`.

use serde_json::json;

use crate::cli::{ErofsArguments, ErofsCompression};
use crate::output::{erofs, whole};

use super::{CommandError, source};

pub(super) fn run(arguments: &ErofsArguments) -> Result<String, CommandError> {
    let read = source::read(&arguments.image)?;
    let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
    let time = source::date_of(&arguments.image)?;
    let options = erofs::Options {
        compress: arguments.compress == ErofsCompression::Lz4,
        time,
    };
    let written = whole::write(&arguments.output, |file| {
        erofs::write(tree, contents, file, options)
    });
    let failed = |source| CommandError::Output {
        path: arguments.output.clone(),
        source,
    };
    let written = written.map_err(failed)?;
    Ok(read.result(
        &arguments.image,
        json!({"file": arguments.output, "written": written}),
    ))
}
