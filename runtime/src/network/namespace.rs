//! Which network namespace a sandbox has, and how its monitor gets into it.
//!
//! Engines find a container's network at `/proc/<pid>/ns/net` of the process that they take for the container: the
//! monitor. So the monitor itself is in the namespace, and what has to happen on the host's side leaves it for that time.

#![expect(
    unsafe_code,
    reason = "unshare can separate file descriptor tables, which is not asked for here"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::redirect::{self, Link};
use crate::bundle::namespaces;
use crate::process::{elsewhere, pids};

/// The network namespace of the thread that reads it.
const OWN: &str = "/proc/thread-self/ns/net";

/// The namespace that this process was started in, once it has left it.
static HOST: OnceLock<OwnedFd> = OnceLock::new();

/// Names one network namespace for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// The namespace that a file such as `/proc/<pid>/ns/net` stands for.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for NamespaceId {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The namespace that a spec asks for, checked: it is neither the host's nor that of somebody else's processes.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// One of its own, which ends with the sandbox.
    New,
    /// One that an engine has made and will remove.
    Existing {
        /// Where the spec found it.
        path: PathBuf,
        /// The namespace.
        file: File,
    },
}

/// The namespace of a sandbox, which this process is in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespace {
    /// Which one.
    pub(crate) id: NamespaceId,
    /// Where to find it again; absent if it ends with the sandbox.
    pub(crate) path: Option<PathBuf>,
    /// What husk adds to it, noted before it does.
    pub(super) links: Vec<Link>,
}

impl Wanted {
    /// That of the sandbox that the container joins: others are in it.
    pub(crate) fn shared(spec: &Spec) -> Result<Self, NetworkError> {
        let (index, path) = Self::entry(spec)?;
        let Some(path) = path else {
            return Ok(Self::New);
        };
        let file = File::open(path).map_err(|source| NetworkError::Path {
            field: format!("linux.namespaces[{index}].path"),
            path: path.to_owned(),
            source,
        })?;
        let path = path.to_owned();
        Ok(Self::Existing { path, file })
    }

    /// What `linux.namespaces` asks for.
    pub(crate) fn of(spec: &Spec) -> Result<Self, NetworkError> {
        match Self::entry(spec)? {
            (index, Some(path)) => Self::existing(path, format!("linux.namespaces[{index}].path")),
            (_, None) => Ok(Self::New),
        }
    }

    /// The place in `linux.namespaces` and the path, if it has one.
    fn entry(spec: &Spec) -> Result<(usize, Option<&Path>), NetworkError> {
        let mut all = namespaces(spec).iter().enumerate();
        let found = all.find(|(_, one)| one.typ() == LinuxNamespaceType::Network);
        let Some((index, namespace)) = found else {
            let field = "linux.namespaces".to_owned();
            return Err(NetworkError::Host { field });
        };
        let path = namespace.path().as_deref();
        Ok((index, path.filter(|path| !path.as_os_str().is_empty())))
    }

    fn existing(path: &Path, field: String) -> Result<Self, NetworkError> {
        let open = || {
            let file = File::open(path)?;
            let id = NamespaceId::from(&file.metadata()?);
            Ok((file, id, NamespaceId::of(Path::new(OWN))?))
        };
        let (file, id, host) = open().map_err(|source| NetworkError::Path {
            field: field.clone(),
            path: path.to_owned(),
            source,
        })?;
        if id == host {
            return Err(NetworkError::Host { field });
        }
        let path = path.to_owned();
        match process_in(id) {
            Some(pid) => Err(NetworkError::Occupied { field, path, pid }),
            None => Ok(Self::Existing { path, file }),
        }
    }

    /// Moves this process into it; it must have one thread. Nothing if an ordinary user, who may not have one, asks for a
    /// new one: nobody could have brought an interface into that.
    pub(crate) fn enter(self) -> Result<Option<Namespace>, NetworkError> {
        let failed = |action| move |source| NetworkError::Enter { action, source };
        let host = File::open(OWN).map_err(failed("open"))?;
        let path = match self {
            Self::New => {
                // SAFETY: file descriptors stay shared.
                match unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
                    Err(Errno::PERM) => return Ok(None),
                    outcome => outcome.map_err(|errno| failed("make")(errno.into()))?,
                }
                None
            }
            Self::Existing { path, file } => {
                move_to(&file).map_err(failed("enter"))?;
                Some(path)
            }
        };
        let id = NamespaceId::of(Path::new(OWN)).map_err(failed("identify"))?;
        // Set once: a monitor has one container.
        HOST.get_or_init(|| host.into());
        let links = Vec::new();
        Ok(Some(Namespace { id, path, links }))
    }
}

impl Namespace {
    /// Whether a machine has taken over interfaces of it.
    pub(crate) fn has_interfaces(&self) -> bool {
        !self.links.is_empty()
    }

    /// Takes away what a sandbox that has ended has left in it, if this process is in it or finds it.
    pub(crate) fn clean(&self) -> Result<(), NetworkError> {
        if !self.has_interfaces() {
            return Ok(());
        }
        let path = self.path.as_deref().unwrap_or(Path::new(OWN));
        // It may have gone, and another may have its name.
        let Ok(file) = File::open(path) else {
            return Ok(());
        };
        let clean = || match NamespaceId::from(&file.metadata()?) == self.id {
            true => within(&file, || redirect::remove(&self.links))?,
            false => Ok(()),
        };
        clean().map_err(|source| NetworkError::Clean {
            path: path.to_owned(),
            source,
        })
    }
}

/// Whether the loopback interface of this process's namespace is without IPv6, as engines make it for networks without.
pub(crate) fn loopback_lacks_ipv6() -> bool {
    // A kernel without IPv6 has no such file.
    fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
        .is_ok_and(|text| text.trim() == "1")
}

/// Does something in the namespace that this process was started in.
pub(crate) fn on_host<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    match HOST.get() {
        None => Ok(work()),
        Some(host) => within(host, work),
    }
}

/// Does something in another namespace.
fn within<T: Send>(
    namespace: &(impl AsFd + Sync),
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    elsewhere(|| move_to(namespace), work)
}

fn move_to(namespace: &impl AsFd) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// A process in the namespace.
fn process_in(id: NamespaceId) -> Option<i32> {
    // One that has just ended, or that is out of reach, is no reason to stop looking.
    pids().find(|pid| {
        NamespaceId::of(Path::new(&format!("/proc/{pid}/ns/net"))).is_ok_and(|other| other == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wanted(namespaces: &Value) -> Result<Wanted, NetworkError> {
        let spec = json!({"ociVersion": "1.0.2", "linux": {"namespaces": namespaces}});
        Wanted::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn the_hosts_network_is_refused_by_field() {
        for (namespaces, field) in [
            (json!(null), "\"linux.namespaces\""),
            (json!([{"type": "pid"}]), "\"linux.namespaces\""),
            (
                json!([{"type": "pid"}, {"type": "network", "path": "/proc/self/ns/net"}]),
                "\"linux.namespaces[1].path\"",
            ),
        ] {
            let error = wanted(&namespaces).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
            assert!(error.contains("host"), "{error}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_an_error() {
        let namespaces = json!([{"type": "network", "path": "/nowhere/netns"}]);
        let error = wanted(&namespaces).unwrap_err().to_string();
        assert!(error.contains("/nowhere/netns"), "{error}");
    }

    #[test]
    fn a_namespace_without_a_path_is_a_new_one() {
        for namespace in [
            json!([{"type": "network"}]),
            json!([{"type": "network", "path": ""}]),
        ] {
            assert!(matches!(wanted(&namespace), Ok(Wanted::New)));
        }
    }

    #[test]
    fn this_process_is_found_in_its_namespace() {
        let own = NamespaceId::of(Path::new(OWN)).unwrap();
        assert!(process_in(own).is_some());
        let other = NamespaceId {
            inode: own.inode + 1_000_000,
            ..own
        };
        assert_eq!(process_in(other), None);
    }
}
