//! Decides where everything in front of the data is: which files there are, in which order, and how each is kept.

use crate::tree::{Kind, Node, NodeId, Tree};

use super::{BLOCK, attributes, compress, directory, inode, superblock};

/// Chunks that the index of one sparse file may have; larger files have larger chunks.
const MAX_CHUNKS: u64 = 1 << 16;

/// How the data of a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks of its own.
    Plain,
    /// The same, but the last part, less than a block, beside the inode.
    Inline,
    /// In chunks of two to the power of `bits` bytes.
    Chunked { bits: u32 },
    /// Compressed, with an index of `clusters` entries.
    Compressed { clusters: u64 },
}

impl Layout {
    /// How many bytes of a file of this size are beside the inode.
    pub(super) fn inline_bytes(self, size: u64) -> usize {
        match self {
            Self::Inline => usize::try_from(size % BLOCK).unwrap_or_default(),
            _ => 0,
        }
    }

    /// The number of it in an inode.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Compressed { .. } => 1,
            Self::Inline => 2,
            Self::Chunked { .. } => 4,
        }
    }
}

/// A file that has an inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) node: NodeId,
    /// The directory it is in, or itself for the root.
    pub(super) above: NodeId,
    pub(super) layout: Layout,
    /// Where it is in the image.
    pub(super) at: u64,
    /// Length of the file; of a directory, what its entries take.
    pub(super) size: u64,
    /// Directories that are in it.
    pub(super) directories: u32,
}

/// Everything in front of the data.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inodes: Vec<Inode>,
    /// Inodes by node.
    numbers: Vec<usize>,
    /// Where it ends.
    pub(super) end: u64,
    /// Whether a file is compressed, and whether one is sparse: an old kernel is told.
    pub(super) compressed: bool,
    pub(super) chunked: bool,
}

impl Plan {
    pub(super) fn new(tree: &Tree, compress: bool) -> Self {
        let mut plan = Self {
            inodes: Vec::new(),
            numbers: vec![usize::MAX; tree.len()],
            end: superblock::END,
            compressed: compress,
            chunked: false,
        };
        let mut pending = vec![(Tree::ROOT, Tree::ROOT)];
        while let Some((node, above)) = pending.pop() {
            // Another name of a file.
            if plan.numbers[node] != usize::MAX {
                continue;
            }
            plan.numbers[node] = plan.inodes.len();
            plan.add(tree, node, above, compress);
            let names: Vec<NodeId> = tree.names(node).map(|(_, child)| child).collect();
            pending.extend(names.into_iter().rev().map(|child| (child, node)));
        }
        plan
    }

    fn add(&mut self, tree: &Tree, id: NodeId, above: NodeId, compress: bool) {
        let node = tree.node(id);
        let size = match &node.kind {
            Kind::Directory(_) => directory::size(tree.names(id).map(|(name, _)| name)),
            _ => node.size(),
        };
        let beside = inode::HEAD + attributes::size(&node.attributes.xattrs);
        let layout = layout(node, size, beside, compress);
        let after = match layout {
            Layout::Plain => 0,
            Layout::Inline => layout.inline_bytes(size) as u64,
            Layout::Chunked { bits } => 4 * size.div_ceil(1 << bits),
            Layout::Compressed { clusters } => compress::index_size(clusters),
        };
        self.chunked |= matches!(layout, Layout::Chunked { .. });
        let mut at = self.end.next_multiple_of(inode::SLOT);
        // Neither an inode nor what is kept beside it may lie across two blocks.
        if at % BLOCK + inode::HEAD > BLOCK || crosses(at + beside, after, layout) {
            at = at.next_multiple_of(BLOCK);
        }
        let start = match layout {
            Layout::Compressed { .. } => {
                (at + beside).next_multiple_of(compress::INDEX_ALIGN as u64)
            }
            _ => at + beside,
        };
        self.end = start + after;
        let directories = tree
            .names(id)
            .filter(|(_, child)| tree.node(*child).is_directory())
            .count();
        let directories = u32::try_from(directories).unwrap_or(u32::MAX);
        self.inodes.push(Inode {
            node: id,
            above,
            layout,
            at,
            size,
            directories,
        });
    }

    /// The directory that a directory is in.
    pub(super) fn above(&self, node: NodeId) -> NodeId {
        self.inodes[self.numbers[node]].above
    }

    /// Where the inode of a file is.
    pub(super) fn at(&self, node: NodeId) -> u64 {
        self.inodes[self.numbers[node]].at
    }
}

/// Whether what is kept beside an inode would lie across two blocks.
fn crosses(start: u64, length: u64, layout: Layout) -> bool {
    layout == Layout::Inline && start % BLOCK + length > BLOCK
}

fn layout(node: &Node, size: u64, beside: u64, compress: bool) -> Layout {
    if let Kind::File(_, contents) = &node.kind {
        let data: u64 = contents.data.iter().map(|extent| extent.length).sum();
        if size - data >= BLOCK {
            let bits = size
                .div_ceil(MAX_CHUNKS)
                .next_power_of_two()
                .max(BLOCK)
                .ilog2();
            return Layout::Chunked { bits };
        }
        // A file of one block has nothing to win.
        if compress && size > BLOCK {
            return Layout::Compressed {
                clusters: size.div_ceil(BLOCK),
            };
        }
    }
    // Only where the attributes leave space for it in the same block.
    if !size.is_multiple_of(BLOCK) && beside % BLOCK + size % BLOCK <= BLOCK && beside < BLOCK {
        Layout::Inline
    } else {
        Layout::Plain
    }
}
