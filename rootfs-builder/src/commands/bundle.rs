//! `husk-rootfs bundle`.

use serde_json::json;

use crate::cli::BundleArguments;
use crate::output::bundle::{self, Process};

use super::{CommandError, source};

pub(super) fn run(arguments: &BundleArguments) -> Result<String, CommandError> {
    let read = source::read(&arguments.image)?;
    let tree = (&read.assembled.tree, &read.assembled.contents);
    let config = read.image.config.as_ref().map(|(_, config)| config);
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
    Ok(read.result(&arguments.image, result).unwrap_or_default())
}
