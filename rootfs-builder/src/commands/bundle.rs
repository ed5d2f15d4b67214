//! `husk-rootfs bundle`.

use serde_json::json;

use crate::cli::BundleArguments;
use crate::output::bundle::{self, Process};

use super::{CommandError, source};

pub(super) fn run(arguments: &BundleArguments) -> Result<String, CommandError> {
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let tree = (&read.assembled.tree, &read.assembled.contents);
    let config = read
        .image
        .as_ref()
        .and_then(|(_, image)| image.config.as_ref());
    let config = config.map(|(_, config)| config);
    let process = Process {
        arguments: &arguments.arguments,
        terminal: arguments.terminal,
    };
    let written = bundle::write(
        tree,
        config,
        &arguments.directory,
        &process,
        arguments.rootless,
    );
    let failed = |source| CommandError::Bundle {
        image: arguments.image.image.to_string(),
        source: Box::new(source),
    };
    let written = written.map_err(failed)?;
    let result = json!({"directory": arguments.directory, "written": written});
    Ok(read.result(result).unwrap_or_default())
}
