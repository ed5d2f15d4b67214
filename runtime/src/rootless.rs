//! Use by an ordinary user: who may open `/dev/kvm` needs no other privilege.
//!
//! Mounts, namespaces and the machine's confinement want capabilities. The monitor of an ordinary user gets them in a user
//! namespace of its own, in which the user is 0: so the machine, its child, serves the user's files as those of the guest's root, and
//! nobody else's. An engine that has made such a namespace already (rootless Podman) is root in it, and husk works as for root.

#![expect(unsafe_code, reason = "unshare; the process has a single thread")]

use std::fs;
use std::io;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The map of a process that is in no user namespace but the first.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// Why an ordinary user cannot have a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootlessError {
    /// The host does not let users have user namespaces.
    #[error("cannot make a user namespace")]
    Namespace(#[source] io::Error),
    /// The namespace does not get the user's id.
    #[error("cannot write {file}")]
    Map {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An id that is not the user's own.
    #[error(
        "field {field:?}: id {id} is not that of the user who runs husk, {own}, the only one in a rootless container"
    )]
    Foreign {
        /// The field.
        field: String,
        /// The id.
        id: u32,
        /// The user's.
        own: u32,
    },
    /// More than one id.
    #[error("field {field:?}: a rootless container has one id, not {size}")]
    Size {
        /// The field.
        field: String,
        /// How many.
        size: u32,
    },
    /// An id that cannot be written again.
    #[error("field {field:?} cannot be changed")]
    Mapping {
        /// The field.
        field: String,
        /// Why.
        #[source]
        source: Box<oci_spec::OciSpecError>,
    },
    /// A hook that runs on the host: the user's namespace cannot be left for it.
    #[error("field {field:?} is not supported for a user without privileges")]
    Hook {
        /// The field.
        field: &'static str,
    },
    /// The program is to run as somebody else.
    #[error("field {field:?}: a rootless container has no id but 0, not {id}")]
    Other {
        /// The field.
        field: &'static str,
        /// The id.
        id: u32,
    },
}

/// Who runs husk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The host's root.
    Root,
    /// Root of a user namespace that somebody has made.
    NamespaceRoot,
    /// An ordinary user.
    User,
}

impl Caller {
    /// Of this process.
    pub(crate) fn of_process() -> Self {
        if !geteuid().is_root() {
            return Self::User;
        }
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if map.is_empty() || is_whole(&map) {
            Self::Root
        } else {
            Self::NamespaceRoot
        }
    }

    /// Not the host's root.
    pub(crate) fn is_rootless(self) -> bool {
        self != Self::Root
    }
}

fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(ALL_IDS)
}

/// Gives the process of an ordinary user a user and a mount namespace, in which it is root. It must have one thread.
pub(crate) fn enter() -> Result<(), RootlessError> {
    if Caller::of_process() != Caller::User {
        return Ok(());
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: the process has one thread, and shares its descriptors as before.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
        .map_err(|errno| RootlessError::Namespace(errno.into()))?;
    for (file, text) in [
        // Without this a group cannot be mapped: who may leave groups could reach what is closed to them.
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text).map_err(|source| RootlessError::Map { file, source })?;
    }
    Ok(())
}

/// Turns ids of an ordinary user's spec into those of the namespace that [`enter`] makes, and refuses all others.
pub(crate) fn adapt(spec: &mut Spec) -> Result<(), RootlessError> {
    if Caller::of_process() == Caller::User {
        adapt_to(spec, geteuid().as_raw(), getegid().as_raw())
    } else {
        Ok(())
    }
}

fn adapt_to(spec: &mut Spec, uid: u32, gid: u32) -> Result<(), RootlessError> {
    refuse_hooks(spec)?;
    let mut mapped = false;
    if let Some(linux) = spec.linux_mut() {
        let users = linux.uid_mappings_mut();
        mapped = users.as_ref().is_some_and(|list| !list.is_empty());
        adapt_map(users, "linux.uidMappings", uid)?;
        adapt_map(linux.gid_mappings_mut(), "linux.gidMappings", gid)?;
    }
    let user = spec.process().as_ref().map(|process| process.user());
    let Some(user) = user.filter(|_| !mapped) else {
        return Ok(());
    };
    let groups = user.additional_gids().iter().flatten();
    let ids = [
        ("process.user.uid", user.uid()),
        ("process.user.gid", user.gid()),
    ];
    let mut all = ids
        .into_iter()
        .chain(groups.map(|gid| ("process.user.additionalGids", *gid)));
    match all.find(|(_, id)| *id != 0) {
        Some((field, id)) => Err(RootlessError::Other { field, id }),
        None => Ok(()),
    }
}

fn refuse_hooks(spec: &Spec) -> Result<(), RootlessError> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let all = [
        ("hooks.prestart", hooks.prestart()),
        ("hooks.createRuntime", hooks.create_runtime()),
        ("hooks.poststop", hooks.poststop()),
    ];
    let mut asked = all
        .into_iter()
        .filter(|(_, list)| list.as_ref().is_some_and(|list| !list.is_empty()));
    match asked.next() {
        Some((field, _)) => Err(RootlessError::Hook { field }),
        None => Ok(()),
    }
}

fn adapt_map(
    map: &mut Option<Vec<LinuxIdMapping>>,
    field: &str,
    own: u32,
) -> Result<(), RootlessError> {
    for (index, mapping) in map.iter_mut().flatten().enumerate() {
        let (id, size) = (mapping.host_id(), mapping.size());
        let field = format!("{field}[{index}]");
        if size != 1 {
            return Err(RootlessError::Size { field, size });
        }
        if id != own {
            return Err(RootlessError::Foreign { field, id, own });
        }
        *mapping = LinuxIdMappingBuilder::default()
            .container_id(mapping.container_id())
            .host_id(0u32)
            .size(size)
            .build()
            .map_err(|error| RootlessError::Mapping {
                field,
                source: Box::new(error),
            })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn adapted(process: &Value, mapping: &Value) -> Result<Value, String> {
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": ["sh"], "user": process},
            "linux": {"uidMappings": mapping, "gidMappings": []},
        });
        let mut spec: Spec = serde_json::from_value(spec).unwrap();
        adapt_to(&mut spec, 1000, 100).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(spec).unwrap()["linux"]["uidMappings"].clone())
    }

    #[test]
    fn the_users_own_id_is_that_of_the_namespaces_root() {
        let root = json!({"uid": 0, "gid": 0});
        let mapping = |id: u32, size: u32| json!([{"containerID": 0, "hostID": id, "size": size}]);
        assert_eq!(adapted(&root, &mapping(1000, 1)), Ok(mapping(0, 1)));
        let foreign = adapted(&root, &mapping(100_000, 1)).unwrap_err();
        assert!(
            foreign.contains("linux.uidMappings[0]") && foreign.contains("100000"),
            "{foreign}"
        );
        let many = adapted(&root, &mapping(1000, 65536)).unwrap_err();
        assert!(many.contains("linux.uidMappings[0]"), "{many}");
    }

    #[test]
    fn other_users_exist_only_if_they_are_mapped() {
        let none = json!([]);
        assert!(adapted(&json!({"uid": 0, "gid": 0}), &none).is_ok());
        let user = adapted(&json!({"uid": 33, "gid": 0}), &none).unwrap_err();
        assert!(
            user.contains("process.user.uid") && user.contains("33"),
            "{user}"
        );
        let group = json!({"uid": 0, "gid": 0, "additionalGids": [0, 5]});
        assert!(
            adapted(&group, &none)
                .unwrap_err()
                .contains("additionalGids")
        );
    }

    #[test]
    fn the_first_namespace_is_known_by_its_map() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
    }
}
