//! Finds the sandbox that a new container is to join: by what its annotations say, or by the namespaces that it is to share.
//!
//! A path of a namespace belongs to a sandbox if it is `/proc/<pid>/ns/<kind>` of a container's monitor, which stands for the
//! container, or if it is a namespace that a container of the sandbox was given by path: an engine's network namespace, for instance.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use protocol::rpc::{Join, NamespaceKind};

use crate::annotations::{AnnotationError, Annotations, Membership};
use crate::bundle::namespaces;
use crate::network::Namespace;
use crate::process::ProcessRef;
use crate::state::{HostNamespace, Record, Root, SandboxDir, Status};

/// Why a sandbox cannot be joined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NeighbourError {
    /// The annotations make no sense.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// An annotation names a container that does not exist or has stopped.
    #[error("annotation {key:?}: sandbox {id} does not run")]
    NoSandbox {
        /// The annotation.
        key: &'static str,
        /// The sandbox it names.
        id: String,
    },
    /// A namespace cannot be looked at.
    #[error("field \"linux.namespaces[{index}].path\": cannot use {path}")]
    Path {
        /// Its place in `linux.namespaces`.
        index: usize,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Containers of different machines cannot share a namespace with one container.
    #[error(
        "field \"linux.namespaces[{index}].path\": container {id} is in another sandbox than container {other}"
    )]
    Mixed {
        /// The namespace's place in `linux.namespaces`.
        index: usize,
        /// Whose namespace it is.
        id: String,
        /// What else is to be joined.
        other: String,
    },
    /// A namespace that containers of one guest do not share.
    #[error(
        "field \"linux.namespaces[{index}].path\": the {kind:?} namespace of container {id} cannot be joined"
    )]
    Kind {
        /// Its place in `linux.namespaces`.
        index: usize,
        /// Its kind.
        kind: LinuxNamespaceType,
        /// Whose it is.
        id: String,
    },
    /// The state of the other containers cannot be read.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
}

/// A running sandbox that a container is to join.
#[derive(Debug)]
pub(crate) struct Home {
    /// Its directory.
    pub(crate) sandbox: SandboxDir,
    /// Its machine.
    pub(crate) machine: ProcessRef,
    /// What is shared with which container.
    pub(crate) joins: Vec<Join>,
    /// The network namespace that is shared, if it is.
    pub(crate) network: Option<Namespace>,
}

/// A container that runs, and where.
#[derive(Debug)]
struct Neighbour {
    record: Record,
    machine: ProcessRef,
    sandbox: SandboxDir,
}

/// The sandbox to join, if there is one.
pub(crate) fn find(root: &Root, spec: &Spec) -> Result<Option<Home>, NeighbourError> {
    let membership = Annotations::of(spec.annotations().as_ref()).membership()?;
    let namespaces: Vec<_> = namespaces(spec)
        .iter()
        .enumerate()
        .filter_map(|(index, namespace)| Some((index, namespace, namespace.path().as_deref()?)))
        .collect();
    if membership.is_none() && namespaces.is_empty() {
        return Ok(None);
    }
    let neighbours = Neighbour::all(root)?;
    let mut chosen = match &membership {
        Some(membership) => by_annotation(&neighbours, membership)?,
        None => None,
    };
    let (mut joins, mut network) = (Vec::new(), None);
    for (index, namespace, path) in namespaces {
        let Some(neighbour) = by_path(&neighbours, index, namespace, path)? else {
            continue;
        };
        let id = neighbour.record.id.clone();
        match chosen {
            Some(other) if other.sandbox != neighbour.sandbox => {
                let other = other.record.id.clone();
                return Err(NeighbourError::Mixed { index, id, other });
            }
            _ => chosen = Some(neighbour),
        }
        let kind = namespace.typ();
        let Some(kind) = kind_of(kind) else {
            return Err(NeighbourError::Kind { index, kind, id });
        };
        if kind == NamespaceKind::Network {
            network.clone_from(&neighbour.record.network);
        }
        joins.push(Join {
            kind,
            container: id,
        });
    }
    Ok(chosen.map(|neighbour| Home {
        sandbox: neighbour.sandbox.clone(),
        machine: neighbour.machine,
        joins,
        network,
    }))
}

/// The namespaces of the host that a container was given by path, and that stand for its own from then on.
pub(crate) fn given(spec: &Spec) -> Vec<HostNamespace> {
    let identity = |namespace: &LinuxNamespace| {
        let kind = kind_of(namespace.typ())?;
        let given = HostNamespace::of(kind, namespace.path().as_deref()?).ok()?;
        // The host's own is nobody's; and for the network it is the monitor's own that counts.
        let own = Path::new("/proc/self/ns").join(kind.file_name());
        let own = HostNamespace::of(kind, &own).ok()?;
        (given != own && kind != NamespaceKind::Network).then_some(given)
    };
    namespaces(spec).iter().filter_map(identity).collect()
}

/// The other containers of a container's machine.
pub(super) fn companions<'a>(
    root: &'a Root,
    record: &'a Record,
) -> impl Iterator<Item = (Record, Status)> + 'a {
    let others = root.ids().into_iter().flatten();
    others
        .filter_map(|id| root.read(&id).ok())
        .filter(|(other, _)| other.id != record.id && other.vmm == record.vmm)
}

impl Neighbour {
    /// Every container that runs in a machine, or waits for its start.
    fn all(root: &Root) -> Result<Vec<Self>, NeighbourError> {
        let ids = root.ids()?;
        let running = ids.iter().filter_map(|id| {
            // Of a container that is damaged or just going away nothing can be joined.
            let (record, status) = root.read(id).ok()?;
            let alive = status.has_processes();
            Some(Self {
                machine: record.vmm.filter(|_| alive)?,
                record,
                sandbox: SandboxDir::of(&root.path_of(id))?,
            })
        });
        Ok(running.collect())
    }
}

fn by_annotation<'a>(
    neighbours: &'a [Neighbour],
    membership: &Membership,
) -> Result<Option<&'a Neighbour>, NeighbourError> {
    let id = membership.sandbox.as_str();
    match neighbours.iter().find(|one| one.record.id == id) {
        Some(found) => Ok(Some(found)),
        None if membership.optional => Ok(None),
        None => Err(NeighbourError::NoSandbox {
            key: membership.key,
            id: id.to_owned(),
        }),
    }
}

fn by_path<'a>(
    neighbours: &'a [Neighbour],
    index: usize,
    namespace: &LinuxNamespace,
    path: &Path,
) -> Result<Option<&'a Neighbour>, NeighbourError> {
    let failed = |source| NeighbourError::Path {
        index,
        path: path.to_owned(),
        source,
    };
    // Also the check that the path exists.
    fs::metadata(path).map_err(failed)?;
    let monitor = pid_in(path);
    let of_monitor = |one: &&Neighbour| Some(one.record.monitor.pid) == monitor;
    if let Some(found) = neighbours.iter().find(of_monitor) {
        return Ok(Some(found));
    }
    let Some(kind) = kind_of(namespace.typ()) else {
        return Ok(None);
    };
    let wanted = HostNamespace::of(kind, path).map_err(failed)?;
    let was_given = |one: &&Neighbour| match (kind, &one.record.network) {
        (NamespaceKind::Network, Some(network)) => network.id == wanted.id,
        _ => one.record.namespaces.contains(&wanted),
    };
    Ok(neighbours.iter().find(was_given))
}

/// `pid` in `/proc/<pid>/ns/<kind>`.
fn pid_in(path: &Path) -> Option<i32> {
    let rest = path.to_str()?.strip_prefix("/proc/")?;
    let (pid, rest) = rest.split_once('/')?;
    rest.starts_with("ns/").then(|| pid.parse().ok())?
}

/// The kind by the protocol's name; nothing for those that containers of one guest do not share.
pub(crate) fn kind_of(kind: LinuxNamespaceType) -> Option<NamespaceKind> {
    match kind {
        LinuxNamespaceType::Cgroup => Some(NamespaceKind::Cgroup),
        LinuxNamespaceType::Ipc => Some(NamespaceKind::Ipc),
        LinuxNamespaceType::Network => Some(NamespaceKind::Network),
        LinuxNamespaceType::Pid => Some(NamespaceKind::Pid),
        LinuxNamespaceType::User => Some(NamespaceKind::User),
        LinuxNamespaceType::Uts => Some(NamespaceKind::Uts),
        LinuxNamespaceType::Mount | LinuxNamespaceType::Time => None,
    }
}
