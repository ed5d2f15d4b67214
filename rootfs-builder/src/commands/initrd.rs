//! `husk-rootfs initrd`.

use std::path::Path;

use crate::additions::Additions;
use crate::cli::InitrdArguments;
use crate::compression::Compression;
use crate::output::initrd::{self, Options};

use super::source::Read;
use super::{CommandError, file, source};

pub(super) fn run(arguments: &InitrdArguments) -> Result<String, CommandError> {
    let read = source::read(arguments.image.as_ref(), &arguments.options)?;
    let additions = Additions::from(&arguments.additions);
    let scratch = source::scratch(&arguments.options);
    make(
        read,
        &additions,
        &arguments.output,
        arguments.compress,
        &scratch,
    )
}

/// Makes an initrd of a tree and of what is put into it.
pub(super) fn make(
    mut read: Read,
    additions: &Additions,
    output: &Path,
    compress: Compression,
    scratch: &Path,
) -> Result<String, CommandError> {
    read.add(additions)?;
    let options = Options { compress, scratch };
    let result = file::make(&read, output, |file| {
        let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
        initrd::write(tree, contents, file, &options)
    })?;
    Ok(read.result(result).unwrap_or_default())
}
