//! What an archive may say of owners, modes and extended attributes, and what is refused of it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::limits::{MAX_NAME, MAX_XATTR_VALUE};
use crate::tar::{Entry, EntryKind};

use super::{Attributes, Kind};

/// Largest major number of a device on Linux.
const MAX_MAJOR: u64 = (1 << 12) - 1;
/// Largest minor number of a device on Linux.
const MAX_MINOR: u64 = (1 << 20) - 1;
/// Mode bits that are kept; the rest of the field says the type again.
const MODE: u64 = 0o7777;

/// Namespaces of extended attributes that Linux stores as they are.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Access control lists: the only attributes of the namespace `system`.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// How overlayfs marks what is deleted: an image that brings such marks would hide files of whatever is stacked on it.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What is wrong with the attributes of an entry.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AttributeError {
    #[error("the owner {0} is not a number that Linux has for users")]
    Owner(u64),
    #[error("the device {0}:{1} is none of Linux")]
    Device(u64, u64),
    #[error("the device 0:0 marks a deleted file of overlayfs")]
    OverlayWhiteout,
    #[error("the attribute {0} is one of overlayfs itself")]
    OverlayAttribute(String),
    #[error("the attribute {0} is in no namespace of Linux")]
    Namespace(String),
    #[error("the attribute {0} has a NUL byte or a name longer than {MAX_NAME} bytes")]
    Name(String),
    #[error("the attribute {0} has more than {MAX_XATTR_VALUE} bytes")]
    Value(String),
}

type Result<T> = std::result::Result<T, AttributeError>;

/// The attributes of an entry, checked.
pub(super) fn checked(entry: &Entry) -> Result<Attributes> {
    let mut xattrs = BTreeMap::new();
    for (name, value) in &entry.xattrs {
        check_xattr(name, value)?;
        xattrs.insert(name.clone(), value.clone());
    }
    Ok(Attributes {
        mode: u32::try_from(entry.mode & MODE).unwrap_or_default(),
        uid: owner(entry.uid)?,
        gid: owner(entry.gid)?,
        mtime: entry.mtime,
        xattrs,
    })
}

/// The number of a user or a group; the last one stands for "no change" in system calls.
fn owner(id: u64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or(AttributeError::Owner(id))
}

/// Refuses an extended attribute that no file of Linux could have, or none of an image should.
pub(super) fn check_xattr(name: &[u8], value: &[u8]) -> Result<()> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if name.len() > MAX_NAME || name.contains(&0) {
        return Err(AttributeError::Name(shown()));
    }
    if value.len() > MAX_XATTR_VALUE {
        return Err(AttributeError::Value(shown()));
    }
    if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(AttributeError::OverlayAttribute(shown()));
    }
    let known = |prefix: &&[u8]| name.starts_with(prefix) && name.len() > prefix.len();
    if !NAMESPACES.iter().any(known) && !ACLS.contains(&name) {
        return Err(AttributeError::Namespace(shown()));
    }
    Ok(())
}

/// The kind of a device, checked; nothing for every other entry.
pub(super) fn device(kind: &EntryKind) -> Result<Option<Kind>> {
    let (character, major, minor) = match *kind {
        EntryKind::CharDevice { major, minor } => (true, major, minor),
        EntryKind::BlockDevice { major, minor } => (false, major, minor),
        _ => return Ok(None),
    };
    if major > MAX_MAJOR || minor > MAX_MINOR {
        return Err(AttributeError::Device(major, minor));
    }
    let bad = |_| AttributeError::Device(major, minor);
    let (major, minor) = (
        u32::try_from(major).map_err(bad)?,
        u32::try_from(minor).map_err(bad)?,
    );
    match (character, major, minor) {
        (true, 0, 0) => Err(AttributeError::OverlayWhiteout),
        (true, ..) => Ok(Some(Kind::CharDevice { major, minor })),
        (false, ..) => Ok(Some(Kind::BlockDevice { major, minor })),
    }
}
