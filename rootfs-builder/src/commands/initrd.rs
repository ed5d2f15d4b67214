//! `husk-rootfs initrd`.

use crate::additions::Additions;
use crate::cli::InitrdArguments;
use crate::output::initrd::{self, Options};

use super::{CommandError, file, source};

pub(super) fn run(arguments: &InitrdArguments) -> Result<String, CommandError> {
    let mut read = source::read(arguments.image.as_ref(), &arguments.options)?;
    let additions = Additions::from(&arguments.additions);
    let scratch = source::scratch(&arguments.options);
    let options = Options {
        compress: arguments.compress,
        scratch: &scratch,
    };
    let result = file::make(&mut read, &additions, &arguments.output, |read, file| {
        let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
        initrd::write(tree, contents, file, &options)
    })?;
    Ok(read.result(result).unwrap_or_default())
}
