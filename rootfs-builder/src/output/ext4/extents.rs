//! Where the data of a file is: extents in a tree, whose root is in the inode and whose leaves have blocks of their own where
//! the inode has no room.

use std::io;

use crate::tar::Contents;

use super::{BLOCK, BLOCK_LEN, too_large};

const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Entries in the inode.
const IN_INODE: usize = 4;
/// Entries in a block.
const IN_BLOCK: usize = (BLOCK_LEN - HEADER) / ENTRY;
/// Blocks of one extent.
const LONGEST: u64 = 1 << 15;

/// Blocks of a file that lie together: `length` from the block `first` of the file are at `place` of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) place: u64,
    pub(super) length: u64,
}

impl Run {
    /// The run that has this block of the file.
    pub(super) fn of(runs: &[Self], block: u64) -> Option<Self> {
        let after = runs.partition_point(|run| run.first <= block);
        runs.get(after.checked_sub(1)?).copied()
    }
}

/// The blocks of a file that have data, placed one after the other from `place` on.
pub(super) fn runs(map: &Contents, place: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for extent in &map.data {
        let first = extent.offset / BLOCK;
        let end = (extent.offset + extent.length).div_ceil(BLOCK);
        match runs.last_mut() {
            // The block in which the piece before ends, or the one after.
            Some(last) if first <= last.first + last.length => last.length = end - last.first,
            Some(last) => {
                let place = last.place + last.length;
                runs.push(Run {
                    first,
                    place,
                    length: end - first,
                });
            }
            None => runs.push(Run {
                first,
                place,
                length: end - first,
            }),
        }
    }
    runs
}

/// How many extents runs become.
fn count(runs: &[Run]) -> usize {
    let counts = runs.iter().map(|run| run.length.div_ceil(LONGEST));
    usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
}

/// How many blocks of its own the tree of runs has.
pub(super) fn tree_blocks(runs: &[Run]) -> u64 {
    let (mut entries, mut blocks) = (count(runs), 0);
    while entries > IN_INODE {
        entries = entries.div_ceil(IN_BLOCK);
        blocks += entries;
    }
    blocks as u64
}

/// The root of the tree of runs, and the blocks of the tree, which will be at `place`.
pub(super) fn encode(runs: &[Run], place: u64) -> io::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut entries = leaves(runs)?;
    let (mut blocks, mut depth, mut next) = (Vec::new(), 0_u16, place);
    while entries.len() > IN_INODE {
        let mut above = Vec::new();
        for part in entries.chunks(IN_BLOCK) {
            let mut block = node(part, IN_BLOCK, depth);
            block.resize(BLOCK_LEN, 0);
            blocks.push(block);
            above.push(index(part[0].0, next)?);
            next += 1;
        }
        (entries, depth) = (above, depth + 1);
    }
    Ok((node(&entries, IN_INODE, depth), blocks))
}

/// An entry of the tree, and the block of the file with which it begins.
type Entry = (u32, [u8; ENTRY]);

fn leaves(runs: &[Run]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for run in runs {
        let mut done = 0;
        while done < run.length {
            let length = LONGEST.min(run.length - done);
            let first = u32::try_from(run.first + done).map_err(|_| too_large())?;
            let place = u32::try_from(run.place + done).map_err(|_| too_large())?;
            let mut entry = [0; ENTRY];
            entry[..4].copy_from_slice(&first.to_le_bytes());
            entry[4..6].copy_from_slice(
                &u16::try_from(length)
                    .map_err(|_| too_large())?
                    .to_le_bytes(),
            );
            entry[8..].copy_from_slice(&place.to_le_bytes());
            entries.push((first, entry));
            done += length;
        }
    }
    Ok(entries)
}

fn index(first: u32, place: u64) -> io::Result<Entry> {
    let mut entry = [0; ENTRY];
    entry[..4].copy_from_slice(&first.to_le_bytes());
    entry[4..8].copy_from_slice(&u32::try_from(place).map_err(|_| too_large())?.to_le_bytes());
    Ok((first, entry))
}

fn node(entries: &[Entry], space: usize, depth: u16) -> Vec<u8> {
    let number = |number| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(number(entries.len()));
    bytes.extend(number(space));
    bytes.extend(depth.to_le_bytes());
    bytes.extend([0; 4]);
    for (_, entry) in entries {
        bytes.extend(entry);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Extent;

    #[test]
    fn pieces_become_runs_of_blocks() {
        let piece = |offset, length| Extent {
            offset,
            stored: 0,
            length,
        };
        let data = vec![
            piece(0, 10),
            piece(4090, 10),
            piece(20_000, 1),
            piece(1 << 20, 8192),
        ];
        let runs = runs(
            &Contents {
                size: 1 << 21,
                data,
            },
            100,
        );
        let expected = [(0, 100, 2), (4, 102, 1), (256, 103, 2)];
        assert_eq!(
            runs,
            expected.map(|(first, place, length)| Run {
                first,
                place,
                length
            })
        );
        assert_eq!(Run::of(&runs, 257), Some(runs[2]));
    }

    #[test]
    fn many_runs_have_a_tree() {
        let run = |n| Run {
            first: 2 * n,
            place: 1000 + n,
            length: 1,
        };
        for (many, blocks) in [
            (4_u64, 0),
            (5, 1),
            (340, 1),
            (341, 2),
            (1361, 6),
            (65_536, 194),
        ] {
            let runs: Vec<Run> = (0..many).map(run).collect();
            let (root, found) = encode(&runs, 9).unwrap();
            assert_eq!(
                (found.len() as u64, tree_blocks(&runs)),
                (blocks, blocks),
                "{many}"
            );
            assert!(root.len() <= 60);
        }
    }
}
