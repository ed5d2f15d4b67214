//! Extended attributes: beside the inode where they fit, in a block of their own otherwise.

use std::collections::BTreeMap;
use std::io;

use super::{BLOCK_LEN, inode};
use crate::output::disk::namespace;

const MAGIC: u32 = 0xea02_0000;
/// What is before the entries in a block.
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;

struct Attribute {
    space: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The attributes in the order of the format.
fn sorted(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<Vec<Attribute>> {
    let mut sorted = Vec::new();
    for (name, value) in attributes {
        let Some((space, name)) = namespace(name) else {
            continue;
        };
        let value = if matches!(space, 2 | 3) {
            access_control_list(value)?
        } else {
            value.clone()
        };
        sorted.push(Attribute {
            space,
            name: name.to_vec(),
            value,
        });
    }
    sorted.sort_by(|a, b| (a.space, a.name.len(), &a.name).cmp(&(b.space, b.name.len(), &b.name)));
    Ok(sorted)
}

/// An access control list as ext4 keeps it: without the numbers of users that entries of other kinds do not have.
fn access_control_list(value: &[u8]) -> io::Result<Vec<u8>> {
    const VERSION: u32 = 2;
    const STORED_VERSION: u32 = 1;
    const NAMED: [u16; 2] = [0x2, 0x8];
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "an access control list cannot be understood",
        )
    };
    let (version, entries) = value.split_first_chunk::<4>().ok_or_else(bad)?;
    if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(8) {
        return Err(bad());
    }
    let mut stored = STORED_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let named = NAMED.contains(&u16::from_le_bytes([entry[0], entry[1]]));
        stored.extend(&entry[..if named { 8 } else { 4 }]);
    }
    Ok(stored)
}

fn length(attributes: &[Attribute]) -> usize {
    let padded = |length: usize| length.next_multiple_of(4);
    attributes
        .iter()
        .map(|one| ENTRY + padded(one.name.len()) + padded(one.value.len()))
        .sum()
}

/// Whether attributes need a block of their own.
pub(super) fn needs_block(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<bool> {
    // Four bytes of zeros end the entries.
    Ok(!attributes.is_empty() && length(&sorted(attributes)?) + 8 > inode::BESIDE)
}

/// What is beside the inode, and the block of its own, if there is one.
pub(super) fn encode(
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let apart = needs_block(attributes)?;
    let attributes = sorted(attributes)?;
    if attributes.is_empty() {
        return Ok((Vec::new(), None));
    }
    if !apart {
        let mut beside = MAGIC.to_le_bytes().to_vec();
        beside.extend(entries(&attributes, inode::BESIDE - 4, 0, false));
        return Ok((beside, None));
    }
    if length(&attributes) + 4 > BLOCK_LEN - BLOCK_HEADER {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a file has more attributes than ext4 can hold",
        ));
    }
    let mut block = vec![0; BLOCK_HEADER];
    block[..4].copy_from_slice(&MAGIC.to_le_bytes());
    // One file has it, and it is one block.
    block[4..8].copy_from_slice(&1_u32.to_le_bytes());
    block[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let hash = attributes
        .iter()
        .fold(0_u32, |all, one| all.rotate_left(16) ^ hash(one));
    block[12..16].copy_from_slice(&hash.to_le_bytes());
    block.extend(entries(
        &attributes,
        BLOCK_LEN - BLOCK_HEADER,
        BLOCK_HEADER,
        true,
    ));
    Ok((Vec::new(), Some(block)))
}

/// Entries from the front and values from the back of `space` bytes; offsets of values count from `base` before.
fn entries(attributes: &[Attribute], space: usize, base: usize, hashed: bool) -> Vec<u8> {
    let mut bytes = vec![0; space];
    let (mut at, mut end) = (0, space);
    for one in attributes {
        end -= one.value.len().next_multiple_of(4);
        bytes[end..end + one.value.len()].copy_from_slice(&one.value);
        let offset =
            u16::try_from(if one.value.is_empty() { 0 } else { base + end }).unwrap_or(u16::MAX);
        let size = u32::try_from(one.value.len()).unwrap_or(u32::MAX);
        let entry = &mut bytes[at..at + ENTRY + one.name.len()];
        entry[0] = u8::try_from(one.name.len()).unwrap_or(u8::MAX);
        entry[1] = one.space;
        entry[2..4].copy_from_slice(&offset.to_le_bytes());
        entry[8..12].copy_from_slice(&size.to_le_bytes());
        if hashed {
            entry[12..16].copy_from_slice(&hash(one).to_le_bytes());
        }
        entry[ENTRY..].copy_from_slice(&one.name);
        at += ENTRY + one.name.len().next_multiple_of(4);
    }
    bytes
}

/// What ext4 recognises equal attributes by.
fn hash(attribute: &Attribute) -> u32 {
    let name = attribute
        .name
        .iter()
        .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    attribute.value.chunks(4).fold(name, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}
