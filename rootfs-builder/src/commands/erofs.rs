//! `husk-rootfs erofs`.

use crate::cli::{ErofsArguments, ErofsCompression};
use crate::output::erofs::{self, Options};

use super::{CommandError, disk};

pub(super) fn run(arguments: &ErofsArguments) -> Result<String, CommandError> {
    let compress = arguments.compress == ErofsCompression::Lz4;
    disk::make(&arguments.image, &arguments.disk, "erofs", |read, file| {
        let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
        let options = Options {
            compress,
            time: read.time,
        };
        erofs::write(tree, contents, file, options)
    })
}
