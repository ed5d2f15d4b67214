//! Compressed files: parts of 64 KiB, each packed with LZ4 into as few blocks as it takes, and an index with an entry for each
//! block of the file (the "full" index of the format, with clusters of several blocks).

use super::{BLOCK, BLOCK_LEN};

/// How much of a file is packed at once.
pub(super) const CHUNK: usize = 64 << 10;
/// Blocks that this may be packed to.
pub(super) const MAX_BLOCKS: u16 = 16;
/// Where an index begins.
pub(super) const INDEX_ALIGN: usize = 8;

/// Length of what is before the entries: the header of the index, and space.
const HEADER: u64 = 16;
const ENTRY: u64 = 8;
/// Clusters of several blocks.
const BIG_CLUSTERS: u16 = 0x2;

/// A block of the file that is kept as it is.
const PLAIN: u16 = 0;
/// A block of the file with which a part begins.
const HEAD: u16 = 1;
/// Another block of the same part.
const NOT_HEAD: u16 = 2;
/// Marks the number of blocks that the part is packed to.
const BLOCK_COUNT: u16 = 1 << 11;

/// Length of an index with so many entries.
pub(super) fn index_size(entries: u64) -> u64 {
    HEADER + entries * ENTRY
}

/// Packs one file and collects its index.
pub(super) struct Compressor {
    index: Vec<u8>,
    blocks: u32,
}

impl Compressor {
    /// For a file of this size.
    pub(super) fn new(size: u64) -> Self {
        let length = index_size(size.div_ceil(BLOCK));
        let mut index = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        index.extend(0_u32.to_le_bytes());
        index.extend(BIG_CLUSTERS.to_le_bytes());
        // LZ4, and clusters of the file as large as a block.
        index.extend([0, 0]);
        index.extend([0; 8]);
        Self { index, blocks: 0 }
    }

    /// Packs the next part of the file, which will be at the block `first`. Returns what is written there.
    pub(super) fn chunk(&mut self, chunk: &[u8], first: u32) -> Vec<u8> {
        let block = BLOCK_LEN;
        let clusters = chunk.len().div_ceil(block);
        let packed = lz4_flex::block::compress(chunk);
        let blocks = packed.len().div_ceil(block);
        let mut data;
        if blocks < clusters {
            data = vec![0; blocks * block - packed.len()];
            data.extend(packed);
            self.packed(clusters, blocks, first);
        } else {
            data = chunk.to_vec();
            data.resize(clusters * block, 0);
            for number in 0..clusters {
                self.entry(PLAIN, first + to_u32(number));
            }
        }
        self.blocks += to_u32(data.len() / block);
        data
    }

    /// The entries of a part that is packed.
    fn packed(&mut self, clusters: usize, blocks: usize, first: u32) {
        self.entry(HEAD, first);
        for number in 1..clusters {
            let back = if number == 1 {
                BLOCK_COUNT | to_u16(blocks)
            } else {
                to_u16(number)
            };
            let forward = to_u16(clusters - number);
            self.entry(NOT_HEAD, u32::from(back) | (u32::from(forward) << 16));
        }
    }

    fn entry(&mut self, kind: u16, place: u32) {
        self.index.extend(kind.to_le_bytes());
        self.index.extend(0_u16.to_le_bytes());
        self.index.extend(place.to_le_bytes());
    }

    /// The number of blocks, which the inode has, and the index.
    pub(super) fn finish(self) -> (u32, Vec<u8>) {
        (self.blocks, self.index)
    }
}

fn to_u16(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
