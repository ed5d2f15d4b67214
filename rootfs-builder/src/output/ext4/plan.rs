//! Which files there are, how much space they take, and where everything in front of the data is.

use std::io;

use crate::tree::{Kind, NodeId, Tree};

use super::{BLOCK, GROUP, attributes, directory, extents, inode, too_large};

/// The inode of the root.
const ROOT: u32 = 2;
/// The first inode that is not reserved.
pub(super) const FIRST: u32 = 11;
/// Length of the description of a group.
pub(super) const DESCRIPTION: u64 = 32;
/// Inodes in a block.
const INODES: u64 = BLOCK / inode::LENGTH;
/// Free space for which there is a free inode.
const SPACE_PER_INODE: u64 = 16 << 10;

/// A file that has an inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) node: NodeId,
    /// The directory it is in, or itself for the root.
    above: NodeId,
    pub(super) number: u32,
    /// The length that the inode says.
    pub(super) size: u64,
    /// Directories that are in it.
    pub(super) directories: u32,
}

/// Where everything is, in blocks.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inodes: Vec<Planned>,
    /// Places in `inodes` by node.
    places: Vec<usize>,
    pub(super) blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u64,
    /// The first of the bitmaps of blocks; those of inodes follow, then the tables of inodes.
    pub(super) bitmaps: u64,
    pub(super) tables: u64,
    /// The first block of data.
    pub(super) data: u64,
}

impl Plan {
    pub(super) fn new(tree: &Tree, free: u64) -> io::Result<Self> {
        let mut plan = Self {
            inodes: Vec::new(),
            places: vec![usize::MAX; tree.len()],
            blocks: 0,
            groups: 1,
            inodes_per_group: 0,
            bitmaps: 0,
            tables: 0,
            data: 0,
        };
        let mut blocks = free.div_ceil(BLOCK);
        let mut pending = vec![(Tree::ROOT, Tree::ROOT)];
        while let Some((node, above)) = pending.pop() {
            // Another name of a file.
            if plan.places[node] != usize::MAX {
                continue;
            }
            blocks += plan.add(tree, node, above)?;
            let names: Vec<NodeId> = tree.names(node).map(|(_, child)| child).collect();
            pending.extend(names.into_iter().rev().map(|child| (child, node)));
        }
        let inodes = plan.inodes.len() as u64 + u64::from(FIRST) + free / SPACE_PER_INODE;
        plan.lay_out(blocks, inodes)?;
        Ok(plan)
    }

    /// Adds a file. Returns how many blocks it takes.
    fn add(&mut self, tree: &Tree, id: NodeId, above: NodeId) -> io::Result<u64> {
        let node = tree.node(id);
        let (data, size) = match &node.kind {
            Kind::Directory(_) => {
                let blocks = directory::blocks(tree.names(id).map(|(name, _)| name));
                (blocks, directory::size(blocks))
            }
            Kind::Symlink(target) => (u64::from(target.len() >= inode::PLACE), node.size()),
            Kind::File(_, map) => {
                let runs = extents::runs(map, 0);
                let blocks = runs.iter().map(|run| run.length).sum::<u64>();
                (blocks + extents::tree_blocks(&runs), map.size)
            }
            _ => (0, 0),
        };
        let attributes = u64::from(attributes::needs_block(&node.attributes.xattrs)?);
        let directories = tree
            .names(id)
            .filter(|(_, child)| tree.node(*child).is_directory())
            .count();
        let place = self.inodes.len();
        // The root has a number of its own, before all others.
        let number = match place {
            0 => ROOT,
            place => u32::try_from(place - 1)
                .ok()
                .and_then(|place| place.checked_add(FIRST))
                .ok_or_else(too_large)?,
        };
        let directories = u32::try_from(directories).map_err(|_| too_large())?;
        self.places[id] = place;
        self.inodes.push(Planned {
            node: id,
            above,
            number,
            size,
            directories,
        });
        Ok(data + attributes)
    }

    /// Divides the image into groups: as many as hold the blocks, those of the groups themselves included.
    fn lay_out(&mut self, blocks: u64, inodes: u64) -> io::Result<()> {
        let most_inodes = 8 * BLOCK;
        self.groups = inodes.div_ceil(most_inodes).max(1);
        loop {
            let per_group = inodes.div_ceil(self.groups).next_multiple_of(INODES);
            let descriptions = (self.groups * DESCRIPTION).div_ceil(BLOCK);
            self.inodes_per_group = per_group;
            self.bitmaps = 1 + descriptions;
            self.tables = self.bitmaps + 2 * self.groups;
            self.data = self.tables + self.groups * per_group / INODES;
            self.blocks = self.data + blocks;
            let needed = self.blocks.div_ceil(GROUP);
            if per_group <= most_inodes && needed <= self.groups {
                // Each group has at least one block.
                self.blocks = self.blocks.max((self.groups - 1) * GROUP + 1);
                break;
            }
            self.groups = needed.max(self.groups + 1);
        }
        u32::try_from(self.blocks)
            .map(drop)
            .map_err(|_| too_large())
    }

    /// The directory that a directory is in.
    pub(super) fn above(&self, node: NodeId) -> NodeId {
        self.inodes[self.places[node]].above
    }

    /// The inode of a file.
    pub(super) fn number(&self, node: NodeId) -> u32 {
        self.inodes[self.places[node]].number
    }

    /// Where an inode is, in bytes: the tables of all groups follow each other.
    pub(super) fn inode_at(&self, number: u32) -> u64 {
        self.tables * BLOCK + (u64::from(number) - 1) * inode::LENGTH
    }
}
