//! `husk-rootfs erofs`.

use crate::additions::Additions;
use crate::cli::{ErofsArguments, ErofsCompression};

use super::disk::{self, Disk, FileSystem};
use super::{CommandError, source};

pub(super) fn run(arguments: &ErofsArguments) -> Result<String, CommandError> {
    let compress = arguments.compress == ErofsCompression::Lz4;
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let disk = Disk {
        file_system: FileSystem::Erofs { compress },
        verity: arguments.disk.verity,
        output: &arguments.disk.output,
    };
    disk::make(read, &Additions::from(&arguments.disk.additions), &disk)
}
