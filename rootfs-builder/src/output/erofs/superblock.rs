//! The superblock, 1024 bytes into the image, and what follows it on compression.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::plan::Plan;
use super::{BLOCK_LEN, Options, compress, inode};

const OFFSET: u64 = 1024;
const LENGTH: usize = 128;
/// What of the first block the checksum covers.
const REST: usize = BLOCK_LEN - 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
/// Length of the record on LZ4 that follows, with its own length before it.
const LZ4_RECORD: u64 = 16;

/// Where the first inode may be.
pub(super) const END: u64 = OFFSET + LENGTH as u64 + LZ4_RECORD;

/// A checksum is there; dates are those of the last change.
const COMPATIBLE: u32 = 0x1 | 0x2;
/// Compressed data is at the end of its blocks.
const LZ4_AT_END: u32 = 0x1;
/// Records on compression follow, and compressed data may have more than a block.
const COMPRESSION_RECORDS: u32 = 0x2;
const CHUNKED_FILES: u32 = 0x4;

/// Algorithms that are used, as bits: LZ4 is the first.
const LZ4: u16 = 1;
/// How far back LZ4 refers.
const LZ4_DISTANCE: u16 = u16::MAX;

/// Writes the superblock of an image of so many blocks, all the rest of which is written.
pub(super) fn write(file: &File, plan: &Plan, options: Options, blocks: u32) -> io::Result<()> {
    let mut features = 0;
    if plan.compressed {
        features |= LZ4_AT_END | COMPRESSION_RECORDS;
    }
    if plan.chunked {
        features |= CHUNKED_FILES;
    }
    let root = plan.inodes[0].at / inode::SLOT;
    let root = u16::try_from(root).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(COMPATIBLE.to_le_bytes());
    bytes.extend([BLOCK_LEN.ilog2().to_le_bytes()[0], 0]);
    bytes.extend(root.to_le_bytes());
    bytes.extend((plan.inodes.len() as u64).to_le_bytes());
    bytes.extend(options.time.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(blocks.to_le_bytes());
    // Inodes and attributes are counted from the beginning of the image; no identifier and no name.
    bytes.extend([0; 4 + 4 + 16 + 16]);
    bytes.extend(features.to_le_bytes());
    bytes.extend(if plan.compressed { LZ4 } else { 0 }.to_le_bytes());
    bytes.resize(LENGTH, 0);
    if plan.compressed {
        bytes.extend(14_u16.to_le_bytes());
        bytes.extend(LZ4_DISTANCE.to_le_bytes());
        bytes.extend(compress::MAX_BLOCKS.to_le_bytes());
    }
    file.write_all_at(&bytes, OFFSET)?;
    let mut block = vec![0; REST];
    file.read_exact_at(&mut block, OFFSET)?;
    file.write_all_at(&crc32c(&block).to_le_bytes(), OFFSET + 4)
}

/// CRC-32C without the last inversion, as the kernel computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_kernel() {
        // RFC 3720, B.4, without the last inversion.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
