//! Inodes of 256 bytes, with dates to the nanosecond and room for small attributes.

use std::io;

use crate::output::disk::{self, kind};
use crate::tree::{Kind, Tree};

use super::{BLOCK, plan::Planned, too_large};

/// Length of an inode.
pub(super) const LENGTH: u64 = LENGTH_BYTES as u64;
const LENGTH_BYTES: usize = 256;
/// Room that says where data is, or holds the target of a short symbolic link.
pub(super) const PLACE: usize = 60;
/// Fields beyond the first 128 bytes.
pub(super) const EXTRA: u16 = 32;
/// Room for attributes after these.
pub(super) const BESIDE: usize = LENGTH_BYTES - 128 - EXTRA as usize;

/// Extents say where data is.
const EXTENTS: u32 = 0x8_0000;
/// Links that a directory can count; one with more says that it has one.
const MAX_LINKS: u32 = 65_000;

/// What is in the room for where data is.
pub(super) enum Place {
    Extents(Vec<u8>),
    Bytes(Vec<u8>),
}

/// The number of a device: in the old form where it fits.
pub(super) fn device(major: u32, minor: u32) -> Vec<u8> {
    if major < 256 && minor < 256 {
        return ((major << 8) | minor).to_le_bytes().to_vec();
    }
    [[0; 4], disk::device(major, minor).to_le_bytes()].concat()
}

/// The inode of a file that takes so many blocks; `attributes` are the block of its attributes, and those beside it.
pub(super) fn encode(
    tree: &Tree,
    planned: &Planned,
    place: &Place,
    blocks: u64,
    attributes: (u64, &[u8]),
) -> io::Result<Vec<u8>> {
    let node = tree.node(planned.node);
    let data = &node.attributes;
    let mut bytes = vec![0; LENGTH_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let permissions = if matches!(node.kind, Kind::Symlink(_)) {
        0o777
    } else {
        data.mode & 0o7777
    };
    let mode = u32::from(kind(&node.kind).0) | permissions;
    let links = if node.is_directory() {
        planned.directories.saturating_add(2)
    } else {
        node.links
    };
    let links = match links {
        links if links < MAX_LINKS => links,
        _ if node.is_directory() => 1,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a file has more names than ext4 can count",
            ));
        }
    };
    let (seconds, extra) = date(data.mtime);
    let sectors = u32::try_from(blocks * (BLOCK / 512)).map_err(|_| too_large())?;
    let (flags, room) = match place {
        Place::Extents(room) => (EXTENTS, room),
        Place::Bytes(room) => (0, room),
    };
    put(0, &mode.to_le_bytes()[..2]);
    put(2, &data.uid.to_le_bytes()[..2]);
    put(4, &planned.size.to_le_bytes()[..4]);
    for at in [8, 12, 16, 144] {
        put(at, &seconds);
    }
    put(24, &data.gid.to_le_bytes()[..2]);
    put(26, &links.to_le_bytes()[..2]);
    put(28, &sectors.to_le_bytes());
    put(32, &flags.to_le_bytes());
    put(40, room);
    put(
        104,
        &u32::try_from(attributes.0)
            .map_err(|_| too_large())?
            .to_le_bytes(),
    );
    put(108, &planned.size.to_le_bytes()[4..]);
    put(120, &data.uid.to_le_bytes()[2..]);
    put(122, &data.gid.to_le_bytes()[2..]);
    put(128, &EXTRA.to_le_bytes());
    for at in [132, 136, 140, 148] {
        put(at, &extra);
    }
    put(LENGTH_BYTES - BESIDE, attributes.1);
    Ok(bytes)
}

/// A date in the two fields of an inode: 32 bits of seconds, and nanoseconds with two more bits of seconds.
fn date((seconds, nanoseconds): (i64, u32)) -> ([u8; 4], [u8; 4]) {
    const FIRST: i64 = -(1 << 31);
    const LAST: i64 = (1 << 34) - (1 << 31) - 1;
    let seconds = seconds.clamp(FIRST, LAST);
    let low = seconds.to_le_bytes();
    let low = [low[0], low[1], low[2], low[3]];
    let epoch = (seconds - i64::from(i32::from_le_bytes(low))) >> 32;
    let epoch = u32::try_from(epoch).unwrap_or_default() & 3;
    (low, ((nanoseconds << 2) | epoch).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_two_more_bits() {
        assert_eq!(date((-1, 5)), ([0xff; 4], 20_u32.to_le_bytes()));
        assert_eq!(
            date((1 << 31, 0)),
            (0x8000_0000_u32.to_le_bytes(), 1_u32.to_le_bytes())
        );
        assert_eq!(date((i64::MAX, 0)).1, 3_u32.to_le_bytes());
    }
}
