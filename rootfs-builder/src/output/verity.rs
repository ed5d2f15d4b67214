//! dm-verity (Linux's admin-guide/device-mapper/verity.rst): a tree of hashes behind a file system, so that a guest reads what the
//! root hash stands for, or an error. As `veritysetup format` writes it, but without what is random: no salt, and the UUID is made
//! of the root hash.
//!
//! Behind the data comes a block that says how the tree is made, then the tree from its top to the hashes of the data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::disk::{BLOCK, BLOCK_LEN};

/// Bytes of a hash.
const HASH: usize = 32;
/// Hashes in a block.
const FAN_OUT: usize = BLOCK_LEN / HASH;
/// Blocks that are hashed at a time.
const BATCH: usize = 256;
/// Bytes of a sector, in which device-mapper counts.
const SECTOR: u64 = 512;
const SIGNATURE: &[u8; 8] = b"verity\0\0";
const ALGORITHM: &[u8; 6] = b"sha256";
/// Version of the block in front of the tree, and of the tree: hashes with the salt in front, in blocks of their own.
const VERSION: u32 = 1;
const HASH_TYPE: u32 = 1;

/// What is to be known of a tree of hashes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Verity {
    /// Stands for every byte of the data.
    pub(crate) root_hash: String,
    pub(crate) data_blocks: u64,
    /// Where the data ends and the block in front of the tree begins.
    pub(crate) hash_offset: u64,
}

type Hash = [u8; HASH];

/// Appends a tree to the whole blocks of a file.
pub(crate) fn append(file: &File) -> io::Result<Verity> {
    let hash_offset = file.metadata()?.len();
    let data_blocks = hash_offset / BLOCK;
    if data_blocks == 0 || !hash_offset.is_multiple_of(BLOCK) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "what is hashed is not one or more whole blocks",
        ));
    }
    let mut levels = Vec::new();
    let mut hashes = hash_data(file, data_blocks)?;
    while hashes.len() > 1 {
        let level = blocks(&hashes);
        hashes = level.chunks(BLOCK_LEN).map(hash).collect();
        levels.push(level);
    }
    let root = hashes.first().copied().unwrap_or_default();
    file.write_all_at(&superblock(&root, data_blocks), hash_offset)?;
    let mut at = hash_offset + BLOCK;
    for level in levels.iter().rev() {
        file.write_all_at(level, at)?;
        at += level.len() as u64;
    }
    Ok(Verity {
        root_hash: hex::encode(root),
        data_blocks,
        hash_offset,
    })
}

fn hash(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

fn hash_data(file: &File, blocks: u64) -> io::Result<Vec<Hash>> {
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let mut hashes = Vec::with_capacity(usize::try_from(blocks).map_err(too_large)?);
    let mut buffer = vec![0; BATCH * BLOCK_LEN];
    let mut at = 0;
    while at < blocks * BLOCK {
        let left = usize::try_from(blocks * BLOCK - at).unwrap_or(usize::MAX);
        let batch = buffer.len().min(left);
        file.read_exact_at(&mut buffer[..batch], at)?;
        hashes.extend(buffer[..batch].chunks(BLOCK_LEN).map(hash));
        at += batch as u64;
    }
    Ok(hashes)
}

/// Hashes in blocks, the last of which is filled with zeros.
fn blocks(hashes: &[Hash]) -> Vec<u8> {
    let mut bytes = hashes.concat();
    bytes.resize(hashes.len().div_ceil(FAN_OUT) * BLOCK_LEN, 0);
    bytes
}

fn superblock(root: &Hash, data_blocks: u64) -> Vec<u8> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash(root)[..16]);
    // A UUID of version 8: its makers say what it is made of (RFC 9562).
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let block_size = u32::try_from(BLOCK).unwrap_or_default().to_le_bytes();
    let mut bytes = [
        &SIGNATURE[..],
        &VERSION.to_le_bytes(),
        &HASH_TYPE.to_le_bytes(),
        &uuid,
    ]
    .concat();
    bytes.extend(ALGORITHM);
    bytes.resize(bytes.len() + 32 - ALGORITHM.len(), 0);
    bytes.extend(block_size);
    bytes.extend(block_size);
    bytes.extend(data_blocks.to_le_bytes());
    // No salt.
    bytes.resize(BLOCK_LEN, 0);
    bytes
}

impl Verity {
    /// What makes husk's guest kernel take its root file system through the tree, when the image is the disk `device`.
    pub(crate) fn command_line(&self, device: &str, file_system: &str) -> String {
        let (blocks, root) = (self.data_blocks, &self.root_hash);
        let sectors = blocks * (BLOCK / SECTOR);
        let tree = self.hash_offset / BLOCK + 1;
        format!(
            "dm-mod.create=\"root,,,ro,0 {sectors} verity 1 {device} {device} {BLOCK} {BLOCK} {blocks} {tree} sha256 {root} -\" \
             root=/dev/dm-0 rootfstype={file_system} ro"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A file of blocks that differ.
    fn data(blocks: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for number in 0..blocks {
            let mut block = [7; BLOCK_LEN];
            block[..8].copy_from_slice(&number.to_le_bytes());
            file.write_all(&block).unwrap();
        }
        file
    }

    #[test]
    fn the_tree_is_as_high_as_it_must_be() {
        // The last is one more than what two levels can hold.
        for (blocks, tree) in [(1, 0), (2, 1), (128, 1), (129, 3), (16_385, 132)] {
            let file = data(blocks);
            let verity = append(file.as_file()).unwrap();
            let length = file.as_file().metadata().unwrap().len();
            assert_eq!(length / BLOCK, blocks as u64 + 1 + tree, "{blocks} blocks");
            assert_eq!(verity.data_blocks, blocks as u64);
        }
    }

    #[test]
    fn a_single_block_is_its_own_tree() {
        let file = data(1);
        let hash = hash(&std::fs::read(file.path()).unwrap());
        assert_eq!(append(file.as_file()).unwrap().root_hash, hex::encode(hash));
    }

    #[test]
    fn what_has_no_whole_blocks_is_refused() {
        for length in [0, 1, BLOCK - 1, BLOCK + 1] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(length).unwrap();
            assert!(append(&file).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_command_line_is_one_that_device_mapper_reads() {
        let verity = Verity {
            root_hash: "ab".into(),
            data_blocks: 10,
            hash_offset: 10 * BLOCK,
        };
        assert_eq!(
            verity.command_line("/dev/vda", "erofs"),
            "dm-mod.create=\"root,,,ro,0 80 verity 1 /dev/vda /dev/vda 4096 4096 10 11 sha256 ab -\" \
             root=/dev/dm-0 rootfstype=erofs ro"
        );
    }
}
