//! `husk-rootfs erofs`.

use crate::cli::{ErofsArguments, ErofsCompression};
use crate::output::erofs::{self, Options};

use super::{CommandError, disk};

pub(super) fn run(arguments: &ErofsArguments) -> Result<String, CommandError> {
    let compress = arguments.compress == ErofsCompression::Lz4;
    disk::make(
        &arguments.image,
        &arguments.disk,
        "erofs",
        |image, file, time| erofs::write(image.0, image.1, file, Options { compress, time }),
    )
}
