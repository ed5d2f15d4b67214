//! `husk-rootfs ext4`.

use crate::cli::Ext4Arguments;
use crate::output::ext4::{self, Options};

use super::{CommandError, disk};

pub(super) fn run(arguments: &Ext4Arguments) -> Result<String, CommandError> {
    let free = arguments.free;
    disk::make(&arguments.image, &arguments.disk, "ext4", |read, file| {
        let (tree, contents) = (&read.assembled.tree, &read.assembled.contents);
        let options = Options {
            free,
            time: read.time,
        };
        ext4::write(tree, contents, file, options)
    })
}
