//! EROFS images (Linux 5.15 and later; Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h): written without root, without
//! mounting and without another program, and the same bytes every time.
//!
//! The superblock comes first, then all inodes with their attributes, small contents and indexes, then the data. The size of
//! everything in front is known before a byte of data is read, so data is written once, as it is read.

mod attributes;
mod compress;
mod directory;
mod inode;
mod plan;
mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::contents::Contents;
use crate::output::disk::{BLOCK, BLOCK_LEN, Written, device};
use crate::tar;
use crate::tree::{Kind, NodeId, Source, Tree};

use compress::Compressor;
use plan::{Layout, Plan};

/// Where a file has no data.
const HOLE: u32 = u32::MAX;

/// How an image is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Whether files are compressed, with LZ4.
    pub(crate) compress: bool,
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
    let plan = Plan::new(tree, options.compress);
    let mut writer = Writer {
        tree,
        contents,
        file,
        plan: &plan,
        next: plan.end.div_ceil(BLOCK),
    };
    for number in 0..plan.inodes.len() {
        writer.inode(number)?;
    }
    let bytes = writer.next * BLOCK;
    file.set_len(bytes)?;
    superblock::write(file, &plan, options, block_number(writer.next)?)?;
    Ok(Written {
        files: plan.inodes.len() as u64,
        bytes,
    })
}

fn block_number(block: u64) -> io::Result<u32> {
    // The format counts blocks in 32 bits, and the last of them means a hole.
    u32::try_from(block)
        .ok()
        .filter(|block| *block != HOLE)
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
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
    /// Writes one file: its data, and its inode with everything beside it.
    fn inode(&mut self, number: usize) -> io::Result<()> {
        let inode = &self.plan.inodes[number];
        let node = self.tree.node(inode.node);
        if !attributes::fits(&node.attributes.xattrs) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a file has more attributes than EROFS can hold",
            ));
        }
        let (place, after) = match (&node.kind, inode.layout) {
            (Kind::Directory(_), _) => {
                let data = directory::data(self.tree, inode.node, self.plan);
                self.flat(&data, inode.layout)?
            }
            (Kind::Symlink(target), _) => self.flat(target, inode.layout)?,
            (Kind::File(source, map), Layout::Compressed { .. }) => self.compressed(source, map)?,
            (Kind::File(source, map), Layout::Chunked { bits }) => {
                self.chunked(source, map, bits)?
            }
            (Kind::File(source, map), layout) => self.file(source, map, layout)?,
            (Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }, _) => {
                (device(*major, *minor), Vec::new())
            }
            (Kind::Fifo, _) => (0, Vec::new()),
        };
        let mut bytes = inode::head(self.tree, self.plan, number, place);
        bytes.extend(attributes::encode(&node.attributes.xattrs));
        if let Layout::Compressed { .. } = inode.layout {
            bytes.resize(bytes.len().next_multiple_of(compress::INDEX_ALIGN), 0);
        }
        bytes.extend(after);
        self.file.write_all_at(&bytes, inode.at)
    }

    fn take(&mut self, bytes: u64) -> io::Result<(u64, u32)> {
        let first = self.next;
        self.next += bytes.div_ceil(BLOCK);
        Ok((first * BLOCK, block_number(first)?))
    }

    /// Bytes in blocks of their own, but for what is kept beside the inode.
    fn flat(&mut self, data: &[u8], layout: Layout) -> io::Result<(u32, Vec<u8>)> {
        let inline = layout.inline_bytes(data.len() as u64);
        let (blocks, tail) = data.split_at(data.len() - inline);
        if blocks.is_empty() {
            return Ok((HOLE, tail.to_vec()));
        }
        let (at, place) = self.take(blocks.len() as u64)?;
        self.file.write_all_at(blocks, at)?;
        Ok((place, tail.to_vec()))
    }

    /// The same for a file, as it is read.
    fn file(
        &mut self,
        source: &Source,
        map: &tar::Contents,
        layout: Layout,
    ) -> io::Result<(u32, Vec<u8>)> {
        let mut tail = vec![0; layout.inline_bytes(map.size)];
        let end = map.size - tail.len() as u64;
        let (at, place) = self.take(end)?;
        let file = self.file;
        self.contents.pieces(source, map, |offset, bytes| {
            let in_blocks = usize::try_from(end.saturating_sub(offset))
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (blocks, rest) = bytes.split_at(in_blocks);
            if !rest.is_empty() {
                let start = offset + blocks.len() as u64 - end;
                let start = usize::try_from(start).map_err(|_| io::ErrorKind::InvalidInput)?;
                tail[start..start + rest.len()].copy_from_slice(rest);
            }
            file.write_all_at(blocks, at + offset)
        })?;
        Ok((if end == 0 { HOLE } else { place }, tail))
    }

    /// A sparse file: chunks, of which those without data take no space.
    fn chunked(
        &mut self,
        source: &Source,
        map: &tar::Contents,
        bits: u32,
    ) -> io::Result<(u32, Vec<u8>)> {
        let size = 1_u64 << bits;
        let mut index = vec![HOLE; usize::try_from(map.size.div_ceil(size)).unwrap_or_default()];
        let file = self.file;
        let contents = self.contents;
        contents.pieces(source, map, |offset, bytes| {
            let (mut offset, mut bytes) = (offset, bytes);
            while !bytes.is_empty() {
                let chunk = offset / size;
                let slot =
                    &mut index[usize::try_from(chunk).map_err(|_| io::ErrorKind::InvalidInput)?];
                if *slot == HOLE {
                    *slot = self.take(size.min(map.size - chunk * size))?.1;
                }
                let within = offset % size;
                let count = usize::try_from(size - within)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                file.write_all_at(&bytes[..count], u64::from(*slot) * BLOCK + within)?;
                (offset, bytes) = (offset + count as u64, &bytes[count..]);
            }
            Ok(())
        })?;
        let index = index.into_iter().flat_map(u32::to_le_bytes).collect();
        Ok((bits - BLOCK.ilog2(), index))
    }

    /// A compressed file, and the index that says where each part of it is.
    fn compressed(&mut self, source: &Source, map: &tar::Contents) -> io::Result<(u32, Vec<u8>)> {
        let mut compressor = Compressor::new(map.size);
        let contents = self.contents;
        contents.chunks(source, map, compress::CHUNK, |chunk| {
            let first = block_number(self.next)?;
            let packed = compressor.chunk(chunk, first);
            let (at, _) = self.take(packed.len() as u64)?;
            self.file.write_all_at(&packed, at)
        })?;
        Ok(compressor.finish())
    }
}

/// The inode of a file in the numbers of the format.
fn number_of(plan: &Plan, node: NodeId) -> u64 {
    plan.at(node) / inode::SLOT
}
