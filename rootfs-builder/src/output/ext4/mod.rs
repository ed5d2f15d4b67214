//! ext4 images (Documentation/filesystems/ext4): written without root, without mounting and without another program, and the
//! same bytes every time.
//!
//! No journal, which a file system that is made whole does not need and one that is only read never does; no checksums. All
//! bitmaps and inode tables are at the beginning (`flex_bg`), the data follows in one piece, and free space is at the end.

mod attributes;
mod directory;
mod extents;
mod inode;
mod plan;
mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::contents::Contents;
use crate::output::disk::{BLOCK, BLOCK_LEN, Written};
use crate::tree::{Kind, Tree};

use extents::Run;
use plan::Plan;

/// Blocks of a group: as many as a block has bits.
const GROUP: u64 = 8 * BLOCK;

/// How an image is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Space that is free for what is written later, in bytes.
    pub(crate) free: u64,
    /// When the image was made, in seconds since 1970.
    pub(crate) time: i64,
}

/// Writes a tree as an image.
pub(crate) fn write(
    tree: &Tree,
    contents: &Contents,
    file: &File,
    options: Options,
) -> io::Result<Written> {
    let plan = Plan::new(tree, options.free)?;
    file.set_len(plan.blocks * BLOCK)?;
    let mut writer = Writer {
        tree,
        contents,
        file,
        plan: &plan,
        next: plan.data,
    };
    for number in 0..plan.inodes.len() {
        writer.inode(number)?;
    }
    superblock::write(file, &plan, tree, options.time, writer.next)?;
    Ok(Written {
        files: plan.inodes.len() as u64,
        bytes: plan.blocks * BLOCK,
    })
}

fn too_large() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

struct Writer<'a> {
    tree: &'a Tree,
    contents: &'a Contents,
    file: &'a File,
    plan: &'a Plan,
    /// The next free block.
    next: u64,
}

impl Writer<'_> {
    /// Writes one file: its data, what says where that is, its attributes, and its inode.
    fn inode(&mut self, number: usize) -> io::Result<()> {
        let planned = &self.plan.inodes[number];
        let node = self.tree.node(planned.node);
        let first = self.next;
        let place = match &node.kind {
            Kind::Directory(_) => {
                let data = directory::data(self.tree, planned.node, self.plan);
                self.flat(&data)?
            }
            Kind::Symlink(target) if target.len() >= inode::PLACE => {
                let mut data = target.to_vec();
                data.resize(BLOCK_LEN, 0);
                self.flat(&data)?
            }
            Kind::Symlink(target) => inode::Place::Bytes(target.to_vec()),
            Kind::File(source, map) => {
                let runs = extents::runs(map, self.next);
                self.next += runs.iter().map(|run| run.length).sum::<u64>();
                self.contents.pieces(source, map, |offset, bytes| {
                    let run = Run::of(&runs, offset / BLOCK).ok_or_else(too_large)?;
                    self.file
                        .write_all_at(bytes, run.place * BLOCK + (offset - run.first * BLOCK))
                })?;
                self.extents(&runs)?
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                inode::Place::Bytes(inode::device(*major, *minor))
            }
            Kind::Fifo => inode::Place::Bytes(Vec::new()),
        };
        let (beside, apart) = attributes::encode(&node.attributes.xattrs)?;
        let mut attributes_at = 0;
        if let Some(block) = apart {
            attributes_at = self.next;
            self.file.write_all_at(&block, attributes_at * BLOCK)?;
            self.next += 1;
        }
        let blocks = self.next - first;
        let bytes = inode::encode(self.tree, planned, &place, blocks, (attributes_at, &beside))?;
        self.file
            .write_all_at(&bytes, self.plan.inode_at(planned.number))
    }

    /// Whole blocks, one after the other.
    fn flat(&mut self, data: &[u8]) -> io::Result<inode::Place> {
        let run = Run {
            first: 0,
            place: self.next,
            length: data.len() as u64 / BLOCK,
        };
        self.file.write_all_at(data, self.next * BLOCK)?;
        self.next += run.length;
        self.extents(&[run])
    }

    /// Writes the blocks that say where data is, and returns what the inode says.
    fn extents(&mut self, runs: &[Run]) -> io::Result<inode::Place> {
        let (root, blocks) = extents::encode(runs, self.next)?;
        for block in blocks {
            self.file.write_all_at(&block, self.next * BLOCK)?;
            self.next += 1;
        }
        Ok(inode::Place::Extents(root))
    }
}
