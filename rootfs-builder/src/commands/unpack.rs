//! `husk-rootfs unpack`.

use serde_json::json;

use crate::cli::UnpackArguments;
use crate::output::directory;

use super::{CommandError, source};

pub(super) fn run(arguments: &UnpackArguments) -> Result<String, CommandError> {
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
    let written = directory::write(tree, contents, &arguments.directory, arguments.rootless);
    let failed = |source| CommandError::Directory {
        image: arguments.image.image.to_string(),
        source: Box::new(source),
    };
    let written = written.map_err(failed)?;
    let result = json!({"directory": arguments.directory, "written": written});
    Ok(read.result(result).unwrap_or_default())
}
