//! Users and groups of an image: by number, or by a name that its own `/etc/passwd` and `/etc/group` explain.

mod add;

use std::io;

use thiserror::Error;

use crate::contents::Contents;
use crate::tree::{Kind, Tree};

pub(crate) use add::{Account, AddError};

/// Largest file of users or groups that is read.
const MAX_FILE: u64 = 4 << 20;

/// Why nobody is meant.
#[derive(Debug, Error)]
pub(crate) enum UserError {
    #[error("cannot read /{0} of the image")]
    Read(&'static str, #[source] io::Error),
    #[error("/{0} of the image has more than {MAX_FILE} bytes")]
    Large(&'static str),
    #[error("{name:?} is no number and not in /{file} of the image")]
    Unknown { name: String, file: &'static str },
}

/// A user in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

/// Finds `USER` or `USER:GROUP`; nobody named is root.
pub(crate) fn find(tree: &Tree, contents: &Contents, named: &str) -> Result<User, UserError> {
    let (user, group) = match named.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (named, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd = read(tree, contents, PASSWD)?;
    let groups = read(tree, contents, GROUP)?;
    let entry = lookup(&passwd, user);
    let uid = entry
        .as_ref()
        .and_then(|fields| fields.get(2)?.parse().ok())
        .or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| UserError::Unknown {
        name: user.to_owned(),
        file: PASSWD,
    })?;
    let own = entry
        .as_ref()
        .and_then(|fields| fields.get(3)?.parse().ok());
    if let Some(group) = group {
        let entry = lookup(&groups, group);
        let gid = entry
            .and_then(|fields| fields.get(2)?.parse().ok())
            .or_else(|| group.parse().ok());
        let gid = gid.ok_or_else(|| UserError::Unknown {
            name: group.to_owned(),
            file: GROUP,
        })?;
        return Ok(User {
            uid,
            gid,
            groups: Vec::new(),
        });
    }
    let name = entry.and_then(|fields| fields.first().copied());
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let (gid, members) = (fields.get(2)?.parse().ok()?, fields.get(3)?);
        name.is_some_and(|name| members.split(',').any(|member| member == name))
            .then_some(gid)
    };
    Ok(User {
        uid,
        gid: own.unwrap_or(0),
        groups: groups.lines().filter_map(member).collect(),
    })
}

/// The line of a name or a number.
fn lookup<'a>(file: &'a str, wanted: &str) -> Option<Vec<&'a str>> {
    let lines = || {
        file.lines()
            .map(|line| line.split(':').collect::<Vec<&str>>())
    };
    let by_name = lines().find(|fields| fields[0] == wanted);
    by_name.or_else(|| lines().find(|fields| fields.get(2) == Some(&wanted)))
}

/// A file of the image as text; nothing when there is none.
fn read(tree: &Tree, contents: &Contents, path: &'static str) -> Result<String, UserError> {
    let bytes = read_bytes(tree, contents, path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(tree: &Tree, contents: &Contents, path: &'static str) -> Result<Vec<u8>, UserError> {
    let mut bytes = Vec::new();
    let Some(node) = tree.find(path.as_bytes()) else {
        return Ok(bytes);
    };
    let Kind::File(source, map) = &tree.node(node).kind else {
        return Ok(bytes);
    };
    if map.size > MAX_FILE {
        return Err(UserError::Large(path));
    }
    let read = contents.chunks(source, map, 4096, |chunk| {
        bytes.extend_from_slice(chunk);
        Ok(())
    });
    read.map_err(|source| UserError::Read(path, source))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_name_before_number() {
        let file = "root:x:0:0::/root:/bin/sh\n7:x:5:5::/:\nseven:x:7:8::/:\n";
        assert_eq!(lookup(file, "root").unwrap()[2], "0");
        assert_eq!(lookup(file, "7").unwrap()[2], "5");
        assert_eq!(lookup(file, "5").unwrap()[0], "7");
        assert!(lookup(file, "nobody").is_none());
    }
}
