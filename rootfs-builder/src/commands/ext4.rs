//! `husk-rootfs ext4`.

use serde_json::json;

use crate::cli::Ext4Arguments;
use crate::output::{ext4, whole};

use super::{CommandError, source};

pub(super) fn run(arguments: &Ext4Arguments) -> Result<String, CommandError> {
    let read = source::read(&arguments.image)?;
    let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
    let time = source::date_of(&arguments.image)?;
    let options = ext4::Options {
        free: arguments.free,
        time,
    };
    let written = whole::write(&arguments.output, |file| {
        ext4::write(tree, contents, file, options)
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
