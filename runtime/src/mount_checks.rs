//! What a spec's mounts must not do: cover `/proc` or parts of it, by which programs find out what confines them. The
//! exceptions are runc's: files whose content container tools replace.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, Mount};

/// A mount or propagation that is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MountCheckError {
    /// Something else than a procfs on `/proc`.
    #[error(
        "field \"mounts[{index}].destination\": {path} cannot be mounted because it is not of type proc"
    )]
    NotProc {
        /// Its place in `mounts`.
        index: usize,
        /// Its destination.
        path: PathBuf,
    },
    /// Something inside `/proc`.
    #[error(
        "field \"mounts[{index}].destination\": {path} cannot be mounted because it is inside /proc"
    )]
    InsideProc {
        /// Its place in `mounts`.
        index: usize,
        /// Its destination.
        path: PathBuf,
    },
    /// No propagation has this name.
    #[error("field \"linux.rootfsPropagation\": {0:?} is not supported")]
    Propagation(String),
}

/// What may be mounted inside `/proc`.
const REPLACEABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Checks the destinations of all mounts.
pub(crate) fn check(mounts: &[Mount]) -> Result<(), MountCheckError> {
    for (index, mount) in mounts.iter().enumerate() {
        let path = normal(mount.destination());
        if mount.typ().as_deref() == Some("proc") || !path.starts_with("/proc") {
            continue;
        }
        // With the host's process ids, engines ask for the host's procfs.
        let proc_again = mount.source().as_deref() == Some(Path::new("/proc"));
        if path == Path::new("/proc") {
            if !proc_again {
                return Err(MountCheckError::NotProc { index, path });
            }
        } else if !REPLACEABLE.iter().any(|file| path == Path::new(file)) {
            return Err(MountCheckError::InsideProc { index, path });
        }
    }
    Ok(())
}

/// Checks the propagation of the root file system.
pub(crate) fn check_propagation(linux: &Linux) -> Result<(), MountCheckError> {
    let Some(given) = linux.rootfs_propagation().as_deref() else {
        return Ok(());
    };
    let kind = given.strip_prefix('r').unwrap_or(given);
    match kind {
        "" | "shared" | "slave" | "private" | "unbindable" => Ok(()),
        _ => Err(MountCheckError::Propagation(given.to_owned())),
    }
}

/// The absolute path without `.`, `..` and repeated slashes.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(destination: &str, kind: &str, source: &str) -> Result<(), MountCheckError> {
        let mount = json!({"destination": destination, "type": kind, "source": source});
        check(&[serde_json::from_value(mount).unwrap()])
    }

    #[test]
    fn proc_is_covered_by_proc_only() {
        assert_eq!(outcome("/proc", "proc", "proc"), Ok(()));
        assert_eq!(outcome("/proc", "bind", "/proc"), Ok(()));
        assert_eq!(outcome("/procfs", "tmpfs", "tmpfs"), Ok(()));
        assert_eq!(
            outcome("/proc/uptime", "bind", "/var/lib/lxcfs/uptime"),
            Ok(())
        );
        for destination in ["/proc", "proc", "/a/../proc/."] {
            let error = outcome(destination, "bind", "/tmp").unwrap_err();
            assert!(error.to_string().contains("not of type proc"), "{error}");
        }
        for destination in ["/proc/self", "/proc//sys/kernel", "/proc/uptime/.."] {
            assert!(
                outcome(destination, "tmpfs", "tmpfs").is_err(),
                "{destination}"
            );
        }
    }

    #[test]
    fn a_propagation_has_a_known_name() {
        let linux = |name| serde_json::from_value(json!({"rootfsPropagation": name})).unwrap();
        for name in ["rshared", "private", "slave", "runbindable", ""] {
            assert_eq!(check_propagation(&linux(name)), Ok(()));
        }
        assert!(check_propagation(&linux("foo")).is_err());
    }
}
