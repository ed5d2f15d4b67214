//! Directories: blocks of entries, each with the distance to the next; the last of a block reaches to its end.

use crate::output::disk::kind;
use crate::tree::{NodeId, Tree};

use super::plan::Plan;
use super::{BLOCK, BLOCK_LEN};

/// What an entry takes without its name.
const ENTRY: usize = 8;

fn entry_length(name: &[u8]) -> usize {
    (ENTRY + name.len()).next_multiple_of(4)
}

/// How many blocks a directory with these names has.
pub(super) fn blocks<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut blocks, mut used) = (1, 0);
    for name in [&b"."[..], b".."].into_iter().chain(names) {
        if used + entry_length(name) > BLOCK_LEN {
            (blocks, used) = (blocks + 1, 0);
        }
        used += entry_length(name);
    }
    blocks
}

/// The length of a directory.
pub(super) fn size(blocks: u64) -> u64 {
    blocks * BLOCK
}

/// The blocks of a directory.
pub(super) fn data(tree: &Tree, directory: NodeId, plan: &Plan) -> Vec<u8> {
    let own = [(&b"."[..], directory), (b"..", plan.above(directory))];
    let mut data = Vec::new();
    // Where the last entry of the block begins, and how much of the block is used.
    let (mut last, mut used) = (0, 0);
    for (name, node) in own.into_iter().chain(tree.names(directory)) {
        let length = entry_length(name);
        if used + length > BLOCK_LEN {
            stretch(&mut data, last);
            used = 0;
        }
        last = data.len();
        data.extend(plan.number(node).to_le_bytes());
        data.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        data.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        data.push(kind(&tree.node(node).kind).1);
        data.extend(name);
        data.resize(last + length, 0);
        used += length;
    }
    stretch(&mut data, last);
    data
}

/// Makes the entry at `last` reach to the end of its block.
fn stretch(data: &mut Vec<u8>, last: usize) {
    data.resize(data.len().next_multiple_of(BLOCK_LEN), 0);
    let length = u16::try_from(data.len() - last).unwrap_or(u16::MAX);
    data[last + 4..last + 6].copy_from_slice(&length.to_le_bytes());
}
