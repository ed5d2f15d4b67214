//! Directories: blocks of entries sorted by name, each block with its entries first and their names after them.

use crate::output::disk::kind;
use crate::tree::{NodeId, Tree};

use super::plan::Plan;
use super::{BLOCK, BLOCK_LEN, number_of};

/// Length of an entry without its name.
const ENTRY: usize = 12;

/// How the entries of a directory are divided into blocks: how many are in each, and the length of the whole.
fn divide<'a>(names: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, u64) {
    let (mut blocks, mut entries, mut used) = (Vec::new(), 0, 0);
    for name in names {
        let needed = ENTRY + name.len();
        if used + needed > BLOCK_LEN {
            blocks.push(entries);
            (entries, used) = (0, 0);
        }
        entries += 1;
        used += needed;
    }
    let size = blocks.len() as u64 * BLOCK + used as u64;
    blocks.push(entries);
    (blocks, size)
}

/// All names of a directory as the format has them, sorted: its own and that of the one above are among them.
fn all<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = names.chain([&b"."[..], b".."]).collect();
    all.sort_unstable();
    all
}

/// The length of a directory that holds these names.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    divide(all(names).into_iter()).1
}

/// The contents of a directory.
pub(super) fn data(tree: &Tree, directory: NodeId, plan: &Plan) -> Vec<u8> {
    let above = plan.above(directory);
    let own = [(&b"."[..], directory), (b"..", above)];
    let mut entries: Vec<(&[u8], NodeId)> = tree.names(directory).chain(own).collect();
    entries.sort_unstable();
    let (blocks, size) = divide(entries.iter().map(|(name, _)| *name));
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut rest = &entries[..];
    for count in blocks {
        // The block before is filled.
        data.resize(data.len().next_multiple_of(BLOCK_LEN), 0);
        let (now, later) = rest.split_at(count);
        let mut name_at = count * ENTRY;
        for (name, node) in now {
            data.extend(number_of(plan, *node).to_le_bytes());
            data.extend(u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
            data.extend([kind(&tree.node(*node).kind).1, 0]);
            name_at += name.len();
        }
        for (name, _) in now {
            data.extend(*name);
        }
        rest = later;
    }
    data
}
