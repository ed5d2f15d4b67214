//! Paths within a tree. Symbolic links on the way are followed inside it, as a container would: `/` and `..` never lead above
//! the root of the tree.

use std::collections::VecDeque;

use thiserror::Error;

use crate::limits::MAX_NAME;

use super::{Kind, NodeId, Tree};

/// Symbolic links on the way of one path (MAXSYMLINKS of Linux).
const MAX_SYMLINKS: usize = 40;

/// Why a path leads nowhere.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PathError {
    #[error("the name has a part that is '..'")]
    ParentDirectory,
    #[error("the name has a part longer than {MAX_NAME} bytes")]
    LongPart,
    #[error("the name lies more than {0} directories deep (--max-depth)")]
    Depth(usize),
    #[error("more than {MAX_SYMLINKS} symbolic links are on the way")]
    Symlinks,
    #[error("something on the way is no directory")]
    NotADirectory,
    #[error("a symbolic link on the way leads to nothing")]
    DanglingSymlink,
}

type Result<T> = std::result::Result<T, PathError>;

/// The parts of a name of an archive: relative to the root, however it is written, and without `..`.
pub(super) fn parts(name: &[u8]) -> Result<Vec<&[u8]>> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(PathError::ParentDirectory);
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(PathError::LongPart);
    }
    Ok(parts)
}

/// Where a path leads, as far as it exists.
pub(super) struct Walk {
    /// The directories from the root to the place, the place itself last.
    pub(super) stack: Vec<NodeId>,
    /// The name of each of them in the one before; the root has none.
    pub(super) names: Vec<Box<[u8]>>,
    /// The names below the place that do not exist.
    pub(super) missing: Vec<Box<[u8]>>,
}

impl Walk {
    /// The deepest directory that exists.
    pub(super) fn place(&self) -> NodeId {
        self.stack.last().copied().unwrap_or(Tree::ROOT)
    }
}

impl Tree {
    /// Follows `parts` from the root, symbolic links included, until the end or the first name that does not exist.
    pub(super) fn walk(&self, parts: &[&[u8]]) -> Result<Walk> {
        let (mut stack, mut names) = (vec![Self::ROOT], Vec::new());
        let mut pending: VecDeque<Box<[u8]>> = parts.iter().map(|part| (*part).into()).collect();
        let (mut links, mut from_link) = (0_usize, 0_usize);
        while let Some(part) = pending.pop_front() {
            let here = stack.last().copied().unwrap_or(Self::ROOT);
            // How much of what is left comes from the target of a link.
            let linked = from_link > 0;
            from_link = from_link.saturating_sub(1);
            match &*part {
                b"" | b"." => continue,
                b".." => {
                    stack.truncate(stack.len().saturating_sub(1).max(1));
                    names.truncate(stack.len() - 1);
                    continue;
                }
                _ => {}
            }
            let Some(next) = self.child(here, &part) else {
                if linked {
                    return Err(PathError::DanglingSymlink);
                }
                pending.push_front(part);
                return Ok(Walk {
                    stack,
                    names,
                    missing: pending.into(),
                });
            };
            match &self.node(next).kind {
                Kind::Directory(_) => {
                    stack.push(next);
                    names.push(part);
                }
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(PathError::Symlinks);
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                        names.clear();
                    }
                    let parts = target.split(|byte| *byte == b'/');
                    for part in parts.rev() {
                        pending.push_front(part.into());
                        from_link += 1;
                    }
                }
                _ => return Err(PathError::NotADirectory),
            }
        }
        Ok(Walk {
            stack,
            names,
            missing: Vec::new(),
        })
    }

    /// The file at a path, symbolic links followed, the last one too; nothing when it leads nowhere.
    pub(crate) fn find(&self, path: &[u8]) -> Option<NodeId> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut parts = split(path);
        for _ in 0..=MAX_SYMLINKS {
            while parts
                .last()
                .is_some_and(|part| matches!(&part[..], b"" | b"."))
            {
                parts.pop();
            }
            let Some((last, above)) = parts.split_last() else {
                return Some(Self::ROOT);
            };
            let above: Vec<&[u8]> = above.iter().map(Vec::as_slice).collect();
            let walk = self
                .walk(&above)
                .ok()
                .filter(|walk| walk.missing.is_empty())?;
            let found = self.child(walk.place(), last)?;
            let Kind::Symlink(target) = &self.node(found).kind else {
                return Some(found);
            };
            if target.starts_with(b"/") {
                parts.clear();
            } else {
                parts.pop();
            }
            parts.extend(split(target));
        }
        None
    }
}
