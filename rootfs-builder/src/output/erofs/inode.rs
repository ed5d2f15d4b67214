//! Inodes: always the extended form of 64 bytes, which has room for every owner, size and date.

use crate::output::disk::kind;
use crate::tree::{Kind, Tree};

use super::attributes;
use super::plan::Plan;

/// Inodes are counted in units of this many bytes.
pub(super) const SLOT: u64 = 32;
/// Length of an inode.
pub(super) const HEAD: u64 = HEAD_LEN as u64;
const HEAD_LEN: usize = 64;

const EXTENDED: u16 = 1;

/// The inode of this number; `place` is the first block of the data, or what else the layout has there.
pub(super) fn head(tree: &Tree, plan: &Plan, number: usize, place: u32) -> Vec<u8> {
    let inode = &plan.inodes[number];
    let node = tree.node(inode.node);
    let data = &node.attributes;
    let links = if node.is_directory() {
        2 + inode.directories
    } else {
        node.links
    };
    let permissions = u16::try_from(data.mode & 0o7777).unwrap_or_default();
    // Symbolic links have no permissions of their own; Linux shows all of them.
    let permissions = if matches!(node.kind, Kind::Symlink(_)) {
        0o777
    } else {
        permissions
    };
    let mut bytes = Vec::with_capacity(HEAD_LEN);
    bytes.extend((EXTENDED | (inode.layout.code() << 1)).to_le_bytes());
    bytes.extend(attributes::count(&data.xattrs).to_le_bytes());
    bytes.extend((kind(&node.kind).0 | permissions).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(inode.size.to_le_bytes());
    bytes.extend(place.to_le_bytes());
    bytes.extend(u32::try_from(number + 1).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(data.uid.to_le_bytes());
    bytes.extend(data.gid.to_le_bytes());
    bytes.extend(data.mtime.0.to_le_bytes());
    bytes.extend(data.mtime.1.to_le_bytes());
    bytes.extend(links.to_le_bytes());
    bytes.resize(HEAD_LEN, 0);
    bytes
}
