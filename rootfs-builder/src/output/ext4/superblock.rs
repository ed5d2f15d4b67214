//! The superblock, the descriptions of the groups, and the bitmaps.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::tree::Tree;

use super::plan::{DESCRIPTION, FIRST, Plan};
use super::{BLOCK, BLOCK_LEN, GROUP, inode, too_large};

const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Extended attributes; backups of the superblock only where it says, which is nowhere.
const COMPATIBLE: u32 = 0x8 | 0x200;
/// Types in directories, extents, groups whose tables are anywhere.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x200;
/// Files of more than 2 GiB, directories with many directories, larger inodes.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x20 | 0x40;
/// How many groups go together, as a power of two; it only guides where new files go.
const GROUPS_TOGETHER: u8 = 4;

/// Writes everything in front of the inodes; blocks before `used` are in use.
pub(super) fn write(file: &File, plan: &Plan, tree: &Tree, time: i64, used: u64) -> io::Result<()> {
    let mut descriptions = Vec::new();
    let mut free_inodes = 0;
    for group in 0..plan.groups {
        let mut description = Group::new(plan, tree, group, used);
        file.write_all_at(&description.block_bitmap(), (plan.bitmaps + group) * BLOCK)?;
        file.write_all_at(
            &description.inode_bitmap(plan),
            (plan.bitmaps + plan.groups + group) * BLOCK,
        )?;
        free_inodes += description.free_inodes();
        descriptions.extend(description.encode(plan)?);
    }
    file.write_all_at(&descriptions, BLOCK)?;
    let time = u32::try_from(time.clamp(0, i64::from(u32::MAX))).unwrap_or_default();
    let free_blocks = plan.blocks - used;
    file.write_all_at(&superblock(plan, time, free_blocks, free_inodes)?, OFFSET)
}

struct Group {
    number: u64,
    /// Blocks and inodes it has, and how many of them are used: the first ones.
    blocks: u64,
    used_blocks: u64,
    inodes: u64,
    used_inodes: u64,
    directories: u64,
}

impl Group {
    fn new(plan: &Plan, tree: &Tree, number: u64, used: u64) -> Self {
        let blocks = GROUP.min(plan.blocks - number * GROUP);
        let inodes = plan.inodes_per_group;
        // The reserved inodes are in use; the root is one of them.
        let all_used = plan.inodes.len() as u64 + u64::from(FIRST) - 2;
        let first = number * inodes;
        let here =
            |planned: &&super::plan::Planned| (u64::from(planned.number) - 1) / inodes == number;
        let directories = plan
            .inodes
            .iter()
            .filter(here)
            .filter(|one| tree.node(one.node).is_directory());
        Self {
            number,
            blocks,
            used_blocks: used.saturating_sub(number * GROUP).min(blocks),
            inodes,
            used_inodes: all_used.saturating_sub(first).min(inodes),
            directories: directories.count() as u64,
        }
    }

    fn free_inodes(&self) -> u64 {
        self.inodes - self.used_inodes
    }

    fn block_bitmap(&self) -> Vec<u8> {
        bitmap(self.used_blocks, self.blocks)
    }

    fn inode_bitmap(&self, plan: &Plan) -> Vec<u8> {
        bitmap(self.used_inodes, plan.inodes_per_group)
    }

    fn encode(&mut self, plan: &Plan) -> io::Result<Vec<u8>> {
        let table = plan.tables + self.number * plan.inodes_per_group * inode::LENGTH / BLOCK;
        let mut bytes = Vec::new();
        for block in [
            plan.bitmaps + self.number,
            plan.bitmaps + plan.groups + self.number,
            table,
        ] {
            bytes.extend(u32::try_from(block).map_err(|_| too_large())?.to_le_bytes());
        }
        for count in [
            self.blocks - self.used_blocks,
            self.free_inodes(),
            self.directories,
        ] {
            bytes.extend(u16::try_from(count).map_err(|_| too_large())?.to_le_bytes());
        }
        bytes.resize(usize::try_from(DESCRIPTION).unwrap_or_default(), 0);
        Ok(bytes)
    }
}

/// A block of bits: the first `used` are set, and those from `all` on, which stand for nothing.
fn bitmap(used: u64, all: u64) -> Vec<u8> {
    let mut bits = vec![0_u8; BLOCK_LEN];
    for (at, byte) in bits.iter_mut().enumerate() {
        let first = at as u64 * 8;
        for bit in 0..8 {
            let number = first + bit;
            if number < used || number >= all {
                *byte |= 1 << bit;
            }
        }
    }
    bits
}

fn superblock(plan: &Plan, time: u32, free_blocks: u64, free_inodes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let mut numbers = Vec::new();
    for (at, number) in [
        (0, plan.groups * plan.inodes_per_group),
        (4, plan.blocks),
        (12, free_blocks),
        (16, free_inodes),
        // 4 KiB, as two to the power of ten and these.
        (24, 2),
        (28, 2),
        (32, GROUP),
        (36, GROUP),
        (40, plan.inodes_per_group),
        (48, time.into()),
        (64, time.into()),
        // The revision with inodes of any size, and the first of them that is not reserved.
        (76, 1),
        (84, FIRST.into()),
        (92, COMPATIBLE.into()),
        (96, INCOMPATIBLE.into()),
        (100, READ_ONLY_COMPATIBLE.into()),
        (264, time.into()),
        // Names are hashed as unsigned bytes.
        (352, 2),
    ] {
        numbers.push((at, u32::try_from(number).map_err(|_| too_large())?));
    }
    for (at, number) in numbers {
        put(at, &number.to_le_bytes());
    }
    // Never checked because of a number of mounts; clean; errors are ignored, as the reader of the image decides.
    put(54, &u16::MAX.to_le_bytes());
    put(56, &MAGIC.to_le_bytes());
    put(58, &1_u16.to_le_bytes());
    put(60, &1_u16.to_le_bytes());
    put(
        88,
        &u16::try_from(inode::LENGTH)
            .unwrap_or_default()
            .to_le_bytes(),
    );
    put(348, &inode::EXTRA.to_le_bytes());
    put(350, &inode::EXTRA.to_le_bytes());
    put(372, &[GROUPS_TOGETHER]);
    Ok(bytes)
}
