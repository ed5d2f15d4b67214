//! What the images of Linux's file systems have in common: blocks, and what stands for types of files, devices and namespaces
//! of attributes.

use crate::tree::Kind;

/// Size of a block.
pub(super) const BLOCK: u64 = BLOCK_LEN as u64;
pub(super) const BLOCK_LEN: usize = 4096;

/// Namespaces of extended attributes by number; the names of access control lists are nothing but the namespace.
const NAMESPACES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// What an image was made of.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Written {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The namespace of an attribute and the rest of its name; nothing for one that images do not keep.
pub(super) fn namespace(name: &[u8]) -> Option<(u8, &[u8])> {
    NAMESPACES
        .iter()
        .find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)))
}

/// The number of a device, as the kernel keeps it (`new_encode_dev`).
pub(super) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

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
