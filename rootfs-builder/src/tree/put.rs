//! Puts files into a tree that no layer holds: the owner of the machine asks for them, so they replace what is there.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::limits::MAX_PATH;

use super::path::{self, PathError};
use super::{Attributes, Kind, NodeId, Tree, implied};

/// Why a file cannot be put where it should be.
#[derive(Debug, Error)]
pub(crate) enum PutError {
    #[error(
        "destination '{0}' is not an absolute path of plain names, at most {MAX_PATH} bytes long"
    )]
    Name(String),
    #[error("cannot put {name} there")]
    Path { name: String, source: PathError },
    #[error("{0} would be both a file and a directory")]
    FileAndDirectory(String),
}

type Result<T> = std::result::Result<T, PutError>;

/// A file that has its place.
pub(crate) struct Put {
    pub(crate) node: NodeId,
    /// What was there before.
    pub(crate) replaced: Option<NodeId>,
}

impl Tree {
    /// Puts a file that is no directory at an absolute path. Symbolic links on the way are followed within the tree; what has
    /// the last name is replaced, but for a directory.
    pub(crate) fn put(&mut self, name: &str, kind: Kind, attributes: Attributes) -> Result<Put> {
        let (above, last) = self.place_of(name)?;
        let replaced = self.child(above, last);
        if replaced.is_some_and(|found| self.node(found).is_directory()) {
            return Err(PutError::FileAndDirectory(name.to_owned()));
        }
        let node = self.add(kind, attributes, 0);
        self.link(above, last, node, 0);
        Ok(Put { node, replaced })
    }

    /// Makes a directory with these attributes, unless one is there.
    pub(crate) fn put_directory(&mut self, name: &str, attributes: Attributes) -> Result<NodeId> {
        let (above, last) = self.place_of(name)?;
        match self.child(above, last) {
            Some(found) if self.node(found).is_directory() => Ok(found),
            Some(_) => Err(PutError::FileAndDirectory(name.to_owned())),
            None => {
                let made = self.add(Kind::Directory(BTreeMap::new()), attributes, 0);
                self.link(above, last, made, 0);
                Ok(made)
            }
        }
    }

    /// Gives a file other content, under all its names.
    pub(crate) fn rewrite(&mut self, id: NodeId, kind: Kind, time: i64) {
        let node = &mut self.nodes[id];
        node.kind = kind;
        node.attributes.mtime = (time, 0);
    }

    /// Gives a file other attributes; its extended ones stay.
    pub(crate) fn set_attributes(&mut self, id: NodeId, attributes: Attributes) {
        let held = &mut self.nodes[id].attributes;
        let xattrs = std::mem::take(&mut held.xattrs);
        *held = attributes;
        held.xattrs.extend(xattrs);
    }

    /// The directory of a path, made as far as it does not exist, and the last name.
    fn place_of<'a>(&mut self, name: &'a str) -> Result<(NodeId, &'a [u8])> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        let fine = |rest: &&str| name.len() <= MAX_PATH && rest.split('/').all(plain);
        let rest = name.strip_prefix('/').filter(fine);
        let rest = rest.ok_or_else(|| PutError::Name(name.to_owned()))?;
        let failed = |source| match source {
            PathError::NotADirectory => PutError::FileAndDirectory(name.to_owned()),
            source => PutError::Path {
                name: name.to_owned(),
                source,
            },
        };
        let parts = path::parts(rest.as_bytes()).map_err(failed)?;
        let (last, parents) = parts
            .split_last()
            .ok_or_else(|| PutError::Name(name.to_owned()))?;
        let walk = self.walk(parents).map_err(failed)?;
        let mut above = walk.place();
        let time = self.root().attributes.mtime.0;
        for part in walk.missing {
            let made = self.add(Kind::Directory(BTreeMap::new()), implied(time), 0);
            self.link(above, &part, made, 0);
            above = made;
        }
        Ok((above, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tree: &mut Tree, name: &str) -> Result<Put> {
        tree.put(name, Kind::Fifo, Attributes::default())
    }

    #[test]
    fn directories_are_made_and_links_are_followed_within_the_tree() {
        let mut tree = Tree::new(7);
        let link = Kind::Symlink(b"../usr/sbin"[..].into());
        put(&mut tree, "/usr/sbin/a").unwrap();
        tree.put("/sbin", link, Attributes::default()).unwrap();
        let made = put(&mut tree, "/sbin/init").unwrap().node;
        assert_eq!(tree.find(b"usr/sbin/init"), Some(made));
        let usr = tree.find(b"usr").unwrap();
        assert_eq!(tree.node(usr).attributes, implied(7));
    }

    #[test]
    fn a_file_replaces_a_file_but_no_directory() {
        let mut tree = Tree::new(0);
        let first = put(&mut tree, "/a/b").unwrap();
        assert_eq!(first.replaced, None);
        assert_eq!(put(&mut tree, "/a/b").unwrap().replaced, Some(first.node));
        for name in ["/a", "/a/b/c"] {
            let error = put(&mut tree, name).err().unwrap().to_string();
            assert_eq!(
                error,
                format!("{name} would be both a file and a directory")
            );
        }
        let attributes = Attributes::default();
        assert!(tree.put_directory("/a/b", attributes.clone()).is_err());
        let existing = tree.put_directory("/a", attributes).unwrap();
        assert_eq!(tree.node(existing).attributes, implied(0));
    }

    #[test]
    fn bad_destinations_are_refused() {
        let long = format!("/{:4096}", "");
        for name in [
            "etc/x", "/", "", "/a//b", "/a/../b", "/./a", "/a/", "/a\0b", &long,
        ] {
            let error = put(&mut Tree::new(0), name).err().unwrap().to_string();
            assert!(
                error.starts_with(&format!("destination '{name}' is not")),
                "{error}"
            );
        }
        let part = format!("/{}", "n".repeat(256));
        assert!(matches!(
            put(&mut Tree::new(0), &part),
            Err(PutError::Path { .. })
        ));
    }
}
