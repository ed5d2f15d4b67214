//! The root file system that an image describes, in memory: what a file is, what directories hold, and where in the layers
//! its content lies. Layers are merged here and nowhere else; every output is written from a finished tree.
//!
//! Nothing in here touches a file system, so nothing that a layer holds can reach one: a symbolic link on the way of a path
//! is followed within the tree, and what an output creates are the names of the tree in directories that it made itself.

mod attributes;
mod host;
mod layer;
mod path;
mod put;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::tar::Contents;

use attributes::AttributeError;
pub(crate) use host::{HostError, read as read_directory};
pub(crate) use layer::{LayerError, Usage, apply};
pub(crate) use put::PutError;

/// Mode of a directory that an archive leaves out, though it has files in it.
const IMPLIED_MODE: u32 = 0o755;

/// A file in the arena of its tree.
pub(crate) type NodeId = usize;

/// A whole root file system.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// One file: several names may lead to it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
    /// Names that lead to it; for a directory, one.
    pub(crate) links: u32,
    /// The layer that it comes from.
    pub(crate) layer: usize,
}

/// What is true of a file of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permissions, with setuid, setgid and the sticky bit.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds after that.
    pub(crate) mtime: (i64, u32),
    /// Extended attributes by name.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory(BTreeMap<Box<[u8]>, Name>),
    File(Source, Contents),
    Symlink(Box<[u8]>),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Where the pieces of a file's contents are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In the unpacked layer of this number.
    Layer(usize),
    /// In a file below the directory that the tree was read from.
    Host(PathBuf),
    /// In the file of this number that was put into the tree.
    Added(usize),
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) node: NodeId,
    /// The layer that last spoke of it: what a whiteout of the same layer must not remove.
    layer: usize,
}

impl Tree {
    /// The root of every tree.
    pub(crate) const ROOT: NodeId = 0;

    /// A tree of nothing but its root. `time` is when directories were made that no layer describes.
    pub(crate) fn new(time: i64) -> Self {
        let root = Node {
            kind: Kind::Directory(BTreeMap::new()),
            attributes: implied(time),
            links: 1,
            layer: 0,
        };
        Self { nodes: vec![root] }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(crate) fn root(&self) -> &Node {
        self.node(Self::ROOT)
    }

    /// How many files were ever in the tree: every [`NodeId`] is below.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What a directory holds, sorted by name; nothing for every other file.
    pub(crate) fn names(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let children = match &self.nodes[id].kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        };
        children
            .into_iter()
            .flatten()
            .map(|(name, found)| (&**name, found.node))
    }

    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[directory].kind {
            Kind::Directory(children) => children.get(name).map(|found| found.node),
            _ => None,
        }
    }

    fn add(&mut self, kind: Kind, attributes: Attributes, layer: usize) -> NodeId {
        self.nodes.push(Node {
            kind,
            attributes,
            links: 0,
            layer,
        });
        self.nodes.len() - 1
    }

    /// Gives a file a name, in the place of what had it.
    fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId, layer: usize) {
        self.nodes[node].links += 1;
        let replaced = match &mut self.nodes[directory].kind {
            Kind::Directory(children) => children.insert(name.into(), Name { node, layer }),
            _ => None,
        };
        if let Some(replaced) = replaced {
            self.forget(replaced.node);
        }
    }

    fn unlink(&mut self, directory: NodeId, name: &[u8]) {
        let removed = match &mut self.nodes[directory].kind {
            Kind::Directory(children) => children.remove(name),
            _ => None,
        };
        if let Some(removed) = removed {
            self.forget(removed.node);
        }
    }

    /// One name less for a file; a directory without a name lets go of what it holds.
    fn forget(&mut self, id: NodeId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let node = &mut self.nodes[id];
            node.links = node.links.saturating_sub(1);
            if let (0, Kind::Directory(children)) = (node.links, &mut node.kind) {
                pending.extend(std::mem::take(children).into_values().map(|name| name.node));
            }
        }
    }
}

impl Node {
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Bytes of data of a file; holes are none.
    pub(crate) fn data(&self) -> u64 {
        match &self.kind {
            Kind::File(_, contents) => contents.data.iter().map(|extent| extent.length).sum(),
            _ => 0,
        }
    }

    /// The length of a file, or of the target of a symbolic link.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(_, contents) => contents.size,
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }
}

fn implied(time: i64) -> Attributes {
    Attributes {
        mode: IMPLIED_MODE,
        mtime: (time, 0),
        ..Attributes::default()
    }
}
