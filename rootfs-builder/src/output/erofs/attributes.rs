//! Extended attributes, kept beside the inode: a header, then each with the number of its namespace, its name and its value.

use std::collections::BTreeMap;

use crate::output::disk::namespace;

/// Length of the header.
const HEADER: usize = 12;
/// Everything is padded to this.
const ALIGN: usize = 4;

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes that the attributes take beside the inode.
pub(super) fn size(attributes: &Attributes) -> u64 {
    let entries = attributes.iter().filter_map(|(name, value)| {
        namespace(name).map(|(_, name)| (4 + name.len() + value.len()).next_multiple_of(ALIGN))
    });
    match entries.sum::<usize>() {
        0 => 0,
        sum => (HEADER + sum) as u64,
    }
}

/// The same as an inode has it: in units of four bytes after the header.
pub(super) fn count(attributes: &Attributes) -> u16 {
    match size(attributes) {
        0 => 0,
        // More is never written, see `fits`.
        size => u16::try_from((size - HEADER as u64) / ALIGN as u64 + 1).unwrap_or(u16::MAX),
    }
}

/// Whether the attributes of a file can be kept at all.
pub(super) fn fits(attributes: &Attributes) -> bool {
    let values = attributes
        .values()
        .all(|value| u16::try_from(value.len()).is_ok());
    values && (size(attributes) / ALIGN as u64) < u64::from(u16::MAX)
}

pub(super) fn encode(attributes: &Attributes) -> Vec<u8> {
    if size(attributes) == 0 {
        return Vec::new();
    }
    let mut bytes = vec![0; HEADER];
    for (name, value) in attributes {
        let Some((prefix, name)) = namespace(name) else {
            continue;
        };
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.push(prefix);
        bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(name);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    }
    bytes
}
