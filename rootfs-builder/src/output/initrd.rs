//! An initrd: a whole tree as a cpio archive, which the kernel unpacks into its first root file system.
//!
//! The format knows no extended attributes and no holes, and dates from 1970 to 2106; what it does not know is left out and
//! counted, or filled with zeros.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::Path;

use crate::compression::Compression;
use crate::contents::Contents;
use crate::cpio::{self, Entry};
use crate::tree::{Kind, Node, NodeId, Tree};

use super::disk;

const SYMLINK_MODE: u32 = 0o777;
/// How much of a file is written at a time.
const CHUNK: usize = 256 << 10;
const BUFFER: usize = 256 << 10;

/// How an initrd is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) compress: Compression,
    /// Where the archive is until it is compressed.
    pub(crate) scratch: &'a Path,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Written {
    /// Names in the archive.
    pub(crate) files: u64,
    /// Bytes of the archive: what it costs the guest's memory, at least.
    pub(crate) unpacked_bytes: u64,
    pub(crate) attributes_left_out: u64,
}

/// Writes a tree as an initrd.
pub(crate) fn write(
    tree: &Tree,
    contents: &Contents,
    file: &File,
    options: &Options<'_>,
) -> io::Result<Written> {
    let archive = match options.compress {
        Compression::None => file.try_clone()?,
        _ => tempfile::tempfile_in(options.scratch)?,
    };
    let mut packer = Packer {
        tree,
        contents,
        archive: cpio::Writer::new(BufWriter::with_capacity(BUFFER, archive)),
        inodes: vec![0; tree.len()],
        next: 1,
        written: Written::default(),
    };
    packer.entry(b".", Tree::ROOT)?;
    packer.directory(&mut Vec::new(), Tree::ROOT)?;
    let mut written = packer.written;
    let mut archive = packer.archive.finish()?.into_inner()?;
    written.unpacked_bytes = archive.stream_position()?;
    if options.compress != Compression::None {
        archive.rewind()?;
        let mut sink = BufWriter::with_capacity(BUFFER, file);
        options.compress.write(archive, &mut sink)?;
        sink.flush()?;
    }
    Ok(written)
}

struct Packer<'a> {
    tree: &'a Tree,
    contents: &'a Contents,
    archive: cpio::Writer<BufWriter<File>>,
    /// Numbers of the files that have been written.
    inodes: Vec<u32>,
    next: u32,
    written: Written,
}

impl Packer<'_> {
    /// Writes what is in a directory, whose name is `path`.
    fn directory(&mut self, path: &mut Vec<u8>, id: NodeId) -> io::Result<()> {
        let tree = self.tree;
        let length = path.len();
        for (name, child) in tree.names(id) {
            if length > 0 {
                path.push(b'/');
            }
            path.extend(name);
            self.entry(path, child)?;
            self.directory(path, child)?;
            path.truncate(length);
        }
        Ok(())
    }

    /// Writes one name. The first name of a file comes with its content, others are links to it.
    fn entry(&mut self, path: &[u8], id: NodeId) -> io::Result<()> {
        let node = self.tree.node(id);
        let mut entry = head(node);
        // The kernel links all kinds of files but for symbolic links, which are then several.
        let symlink = matches!(node.kind, Kind::Symlink(_));
        let known = self.inodes[id] != 0 && !symlink;
        if !known {
            self.inodes[id] = self.next;
            self.next += 1;
            self.written.attributes_left_out += node.attributes.xattrs.len() as u64;
        }
        self.written.files += 1;
        entry.inode = self.inodes[id];
        if !known {
            entry.size = u32::try_from(node.size()).map_err(|_| {
                let name = path.escape_ascii();
                let text = format!("/{name} has 4 GiB or more, which no initrd can hold");
                io::Error::new(io::ErrorKind::FileTooLarge, text)
            })?;
        }
        let contents = self.contents;
        self.archive.add(path, &entry, |body| match &node.kind {
            _ if known => Ok(()),
            Kind::File(source, map) => {
                contents.chunks(source, map, CHUNK, |bytes| body.write(bytes))
            }
            Kind::Symlink(target) => body.write(target),
            _ => Ok(()),
        })
    }
}

/// What the archive says of a file beside its size and its number.
fn head(node: &Node) -> Entry {
    let (file_type, _) = disk::kind(&node.kind);
    let mode = match node.kind {
        Kind::Symlink(_) => SYMLINK_MODE,
        _ => node.attributes.mode,
    };
    let seconds = node.attributes.mtime.0.max(0);
    Entry {
        mode: u32::from(file_type) | mode,
        uid: node.attributes.uid,
        gid: node.attributes.gid,
        links: match node.kind {
            Kind::Directory(_) => 2,
            Kind::Symlink(_) => 1,
            _ => node.links,
        },
        mtime: u32::try_from(seconds).unwrap_or(u32::MAX),
        device: match node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (major, minor)
            }
            _ => (0, 0),
        },
        ..Entry::default()
    }
}
