//! The types of files in numbers, which Linux's file systems share.

use crate::tree::Kind;

/// The type of a file, in a mode and in a directory.
pub(super) fn kind(kind: &Kind) -> (u16, u8) {
    match kind {
        Kind::File(..) => (0o100_000, 1),
        Kind::Directory(_) => (0o040_000, 2),
        Kind::CharDevice { .. } => (0o020_000, 3),
        Kind::BlockDevice { .. } => (0o060_000, 4),
        Kind::Fifo => (0o010_000, 5),
        Kind::Symlink(_) => (0o120_000, 7),
    }
}
