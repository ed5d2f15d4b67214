//! Applies one layer to a tree, by the OCI image specification ("Image Layer Filesystem Changeset"): entries replace what is
//! there, whiteouts remove what lower layers brought, whatever order the entries of the layer have.

use thiserror::Error;

use crate::limits::Limits;
use crate::tar::{Entry, EntryKind, ReadAt, Reader, TarError};

use super::path::{self, PathError, Walk};
use super::{AttributeError, Attributes, Kind, NodeId, Source, Tree, attributes, implied};

/// Before the name of a file that a layer removes.
const WHITEOUT: &[u8] = b".wh.";
/// Names that begin with this are of the storage driver that the format comes from, but for the next.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Removes everything that lower layers have in the directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a layer cannot be applied.
#[derive(Debug, Error)]
pub(crate) enum LayerError {
    #[error("after {after}")]
    Archive { after: String, source: TarError },
    #[error("{name}")]
    Path { name: String, source: PathError },
    #[error("{name}")]
    Attributes {
        name: String,
        source: AttributeError,
    },
    #[error("{name}: {limit} (--{option})")]
    Limit {
        name: String,
        limit: String,
        option: &'static str,
    },
    #[error("{name}: the root can only be a directory")]
    Root { name: String },
    #[error("{name}: a whiteout without a name")]
    Whiteout { name: String },
    #[error("{name}: a hard link to {target}, which does not exist")]
    MissingTarget { name: String, target: String },
    #[error("{name}: a hard link to {target}, which is a directory")]
    DirectoryTarget { name: String, target: String },
    #[error("{name}: a hard link to itself")]
    SelfLink { name: String },
    #[error("{name}: a symbolic link without a target")]
    EmptyTarget { name: String },
}

type Result<T> = std::result::Result<T, LayerError>;

/// What was used of the limits, over all layers.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    entries: u64,
    bytes: u64,
}

/// Applies the layer of this number.
pub(crate) fn apply<S: ReadAt + ?Sized>(
    tree: &mut Tree,
    layer: usize,
    mut reader: Reader<'_, S>,
    limits: &Limits,
    usage: &mut Usage,
) -> Result<()> {
    let time = tree.root().attributes.mtime.0;
    let mut changes = Changes {
        tree,
        layer,
        limits,
        usage,
        time,
    };
    let mut last = "the beginning".to_owned();
    loop {
        let entry = reader.next();
        let entry = entry.map_err(|source| LayerError::Archive {
            after: last,
            source,
        })?;
        let Some(entry) = entry else { return Ok(()) };
        last = shown(&entry.name);
        changes.entry(entry)?;
    }
}

/// A layer that is being applied.
struct Changes<'a> {
    tree: &'a mut Tree,
    layer: usize,
    limits: &'a Limits,
    usage: &'a mut Usage,
    time: i64,
}

impl Changes<'_> {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        let name = entry.name.clone();
        let parts = path::parts(&name).map_err(in_path(&name))?;
        self.count(&entry)?;
        let Some((last, parents)) = parts.split_last() else {
            return self.root(&entry);
        };
        if last.starts_with(WHITEOUT) {
            return self.whiteout(&name, parents, last);
        }
        let attributes = attributes::checked(&entry);
        let attributes = attributes.map_err(in_attributes(&name))?;
        // Looked up before anything is made or replaced.
        let target = match &entry.kind {
            EntryKind::HardLink(target) => Some(self.target(&name, target)?),
            _ => None,
        };
        let directory = self.make_parents(&name, parents)?;
        match target {
            Some(target) => self.hard_link(&entry, directory, last, target),
            None => self.place(entry, directory, last, attributes),
        }
    }

    /// Counts an entry against the limits.
    fn count(&mut self, entry: &Entry) -> Result<()> {
        let (pieces, bytes, length) = match &entry.kind {
            // A file costs memory for each piece of its data, but for the first.
            EntryKind::File(contents) => (
                contents.data.len().saturating_sub(1) as u64,
                contents.data.iter().map(|extent| extent.length).sum(),
                contents.size,
            ),
            _ => (0, 0, 0),
        };
        self.usage.entries += 1 + pieces;
        self.usage.bytes = self.usage.bytes.saturating_add(bytes);
        let name = || shown(&entry.name);
        let (max_entries, max_size) = (self.limits.max_entries, self.limits.max_size);
        if self.usage.entries > max_entries {
            let limit = format!("the image has more than {max_entries} entries");
            return Err(LayerError::Limit {
                name: name(),
                limit,
                option: "max-entries",
            });
        }
        if self.usage.bytes > max_size || length > max_size {
            let limit = format!("the image or this file has more than {max_size} bytes");
            return Err(LayerError::Limit {
                name: name(),
                limit,
                option: "max-size",
            });
        }
        Ok(())
    }

    /// An entry for the root itself says what its attributes are.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(LayerError::Root {
                name: shown(&entry.name),
            });
        }
        let attributes = attributes::checked(entry);
        let root = &mut self.tree.nodes[Tree::ROOT];
        root.attributes = attributes.map_err(in_attributes(&entry.name))?;
        root.layer = self.layer;
        Ok(())
    }

    /// The file that a hard link leads to: links in the directories above it are followed, the last name is not.
    fn target(&self, name: &[u8], target: &[u8]) -> Result<NodeId> {
        let failed = |error| match error {
            PathError::DanglingSymlink | PathError::NotADirectory => missing(name, target),
            error => in_path(name)(error),
        };
        let parts = path::parts(target).map_err(failed)?;
        let Some((last, parents)) = parts.split_last() else {
            return Err(LayerError::DirectoryTarget {
                name: shown(name),
                target: shown(target),
            });
        };
        let walk = self.tree.walk(parents).map_err(failed)?;
        let found = self
            .tree
            .child(walk.place(), last)
            .filter(|_| walk.missing.is_empty());
        let found = found.ok_or_else(|| missing(name, target))?;
        if self.tree.node(found).is_directory() {
            return Err(LayerError::DirectoryTarget {
                name: shown(name),
                target: shown(target),
            });
        }
        Ok(found)
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        directory: NodeId,
        last: &[u8],
        target: NodeId,
    ) -> Result<()> {
        let EntryKind::HardLink(target_name) = &entry.kind else {
            return Ok(());
        };
        match self.tree.child(directory, last) {
            Some(existing) if existing == target => {
                let same_name = path::parts(target_name) == path::parts(&entry.name);
                if same_name {
                    return Err(LayerError::SelfLink {
                        name: shown(&entry.name),
                    });
                }
                // Two names of one file already.
                self.touch(directory, last);
                return Ok(());
            }
            Some(_) => self.tree.unlink(directory, last),
            None => {}
        }
        // It may have been in the directory that the link replaced.
        if self.tree.node(target).links == 0 {
            return Err(missing(&entry.name, target_name));
        }
        self.tree.link(directory, last, target, self.layer);
        Ok(())
    }

    /// Puts an entry in its place; a directory keeps what it holds.
    fn place(
        &mut self,
        entry: Entry,
        directory: NodeId,
        last: &[u8],
        attributes: Attributes,
    ) -> Result<()> {
        let device = attributes::device(&entry.kind).map_err(in_attributes(&entry.name))?;
        let kind = match (entry.kind, device) {
            (_, Some(device)) => device,
            (EntryKind::File(contents), _) => Kind::File(Source::Layer(self.layer), contents),
            (EntryKind::Symlink(target), _) if target.is_empty() => {
                return Err(LayerError::EmptyTarget {
                    name: shown(&entry.name),
                });
            }
            (EntryKind::Symlink(target), _) => Kind::Symlink(target.into()),
            (EntryKind::Fifo, _) => Kind::Fifo,
            _ => {
                let existing = self.tree.child(directory, last);
                if let Some(existing) = existing.filter(|id| self.tree.node(*id).is_directory()) {
                    let node = &mut self.tree.nodes[existing];
                    (node.attributes, node.layer) = (attributes, self.layer);
                    self.touch(directory, last);
                    return Ok(());
                }
                Kind::Directory(std::collections::BTreeMap::new())
            }
        };
        let node = self.tree.add(kind, attributes, self.layer);
        self.tree.link(directory, last, node, self.layer);
        Ok(())
    }

    /// The directory at `parents`, which is made as far as it does not exist; all on the way count as of this layer.
    fn make_parents(&mut self, name: &[u8], parents: &[&[u8]]) -> Result<NodeId> {
        let Walk {
            mut stack,
            names,
            missing,
        } = self.tree.walk(parents).map_err(in_path(name))?;
        let depth = stack.len() + missing.len();
        if depth > self.limits.max_depth {
            return Err(in_path(name)(PathError::Depth(self.limits.max_depth)));
        }
        for (directory, name) in stack.iter().zip(&names) {
            self.touch(*directory, name);
        }
        for part in missing {
            let above = stack.last().copied().unwrap_or(Tree::ROOT);
            self.usage.entries += 1;
            let kind = Kind::Directory(std::collections::BTreeMap::new());
            let made = self.tree.add(kind, implied(self.time), self.layer);
            self.tree.link(above, &part, made, self.layer);
            stack.push(made);
        }
        Ok(stack.last().copied().unwrap_or(Tree::ROOT))
    }

    /// Says that this layer spoke of a name.
    fn touch(&mut self, directory: NodeId, name: &[u8]) {
        if let Kind::Directory(children) = &mut self.tree.nodes[directory].kind
            && let Some(found) = children.get_mut(name)
        {
            found.layer = self.layer;
        }
    }

    /// Removes what lower layers have under a name, or everything that they have in the directory.
    fn whiteout(&mut self, name: &[u8], parents: &[&[u8]], last: &[u8]) -> Result<()> {
        let walk = self.tree.walk(parents);
        let walk = match walk {
            // Nothing is there that could be removed.
            Err(PathError::DanglingSymlink | PathError::NotADirectory) => return Ok(()),
            walk => walk.map_err(in_path(name))?,
        };
        if !walk.missing.is_empty() {
            return Ok(());
        }
        if last == OPAQUE {
            self.remove_lower(walk.place());
            return Ok(());
        }
        if last.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        let removed = &last[WHITEOUT.len()..];
        if matches!(removed, b"" | b"." | b"..") {
            return Err(LayerError::Whiteout { name: shown(name) });
        }
        self.remove_lower_name(walk.place(), removed);
        Ok(())
    }

    /// Removes a name of lower layers; what this layer put there, or below it, stays.
    fn remove_lower_name(&mut self, directory: NodeId, name: &[u8]) {
        let Kind::Directory(children) = &self.tree.node(directory).kind else {
            return;
        };
        let Some(found) = children.get(name).copied() else {
            return;
        };
        if found.layer != self.layer {
            self.tree.unlink(directory, name);
        } else if self.tree.node(found.node).is_directory() {
            self.remove_lower(found.node);
        }
    }

    /// Removes everything that lower layers have below a directory.
    fn remove_lower(&mut self, directory: NodeId) {
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            let Kind::Directory(children) = &self.tree.node(directory).kind else {
                continue;
            };
            let (mut lower, mut kept) = (Vec::new(), Vec::new());
            for (name, found) in children {
                if found.layer == self.layer {
                    kept.push(found.node);
                } else {
                    lower.push(name.clone());
                }
            }
            for name in lower {
                self.tree.unlink(directory, &name);
            }
            pending.extend(kept);
        }
    }
}

fn in_path(name: &[u8]) -> impl Fn(PathError) -> LayerError {
    let name = shown(name);
    move |source| LayerError::Path {
        name: name.clone(),
        source,
    }
}

fn in_attributes(name: &[u8]) -> impl Fn(AttributeError) -> LayerError {
    let name = shown(name);
    move |source| LayerError::Attributes {
        name: name.clone(),
        source,
    }
}

fn missing(name: &[u8], target: &[u8]) -> LayerError {
    LayerError::MissingTarget {
        name: shown(name),
        target: shown(target),
    }
}

/// A name as it can be shown: without control characters, and not longer than a line.
fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let name = if name.is_empty() { b"/" } else { name };
    let text = name.escape_ascii().to_string();
    if text.len() <= LONGEST {
        text
    } else {
        format!("{}...", &text[..LONGEST])
    }
}
