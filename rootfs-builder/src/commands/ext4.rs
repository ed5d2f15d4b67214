//! `husk-rootfs ext4`.

use crate::additions::Additions;
use crate::cli::Ext4Arguments;

use super::disk::{self, Disk, FileSystem};
use super::{CommandError, source};

pub(super) fn run(arguments: &Ext4Arguments) -> Result<String, CommandError> {
    let free = arguments.free;
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let disk = Disk {
        file_system: FileSystem::Ext4 { free },
        verity: arguments.disk.verity,
        output: &arguments.disk.output,
    };
    disk::make(read, &Additions::from(&arguments.disk.additions), &disk)
}
