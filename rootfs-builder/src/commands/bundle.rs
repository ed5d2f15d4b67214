//! `husk-rootfs bundle`.

use std::path::Path;

use serde_json::json;

use crate::cli::BundleArguments;
use crate::output::bundle::{self, Process};

use super::source::Read;
use super::{CommandError, source};

pub(super) fn run(arguments: &BundleArguments) -> Result<String, CommandError> {
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let process = Process {
        arguments: &arguments.arguments,
        terminal: arguments.terminal,
    };
    make(&read, &arguments.directory, &process, arguments.rootless)
}

/// Writes a tree as a bundle, with the configuration of its image.
pub(super) fn make(
    read: &Read,
    path: &Path,
    process: &Process<'_>,
    rootless: bool,
) -> Result<String, CommandError> {
    let tree = (&read.assembled.tree, &read.assembled.contents);
    let config = read
        .image
        .as_ref()
        .and_then(|(_, image)| image.config.as_ref());
    let config = config.map(|(_, config)| config);
    let written = bundle::write(tree, config, path, process, rootless);
    let written = written.map_err(|source| CommandError::Bundle {
        image: read.name(),
        source: Box::new(source),
    })?;
    let result = json!({"directory": path, "written": written});
    Ok(read.result(result).unwrap_or_default())
}
