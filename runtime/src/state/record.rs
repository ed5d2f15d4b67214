//! `state.json` and `exit.json`, and the status that follows from them and from the processes that still live.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hooks;
use protocol::rpc::NamespaceKind;
use rustix::process::getuid;
use serde::{Deserialize, Serialize};

use super::ContainerId;
use crate::bundle::Bundle;
use crate::cgroup::HostCgroup;
use crate::clock;
use crate::network::{Namespace, NamespaceId};
use crate::process::ProcessRef;

/// Version of the files. Another version is not read.
pub(crate) const VERSION: u32 = 3;

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The container's id.
    pub(crate) id: String,
    /// `ociVersion` of its bundle.
    pub(crate) oci_version: String,
    /// The bundle's directory.
    pub(crate) bundle: PathBuf,
    /// The root file system's directory on the host.
    pub(crate) rootfs: PathBuf,
    /// When it was made.
    pub(crate) created: String,
    /// User id of who made it.
    pub(crate) owner: u32,
    /// `annotations` of its bundle.
    pub(crate) annotations: BTreeMap<String, String>,
    /// `hooks` of its bundle.
    pub(crate) hooks: Option<Hooks>,
    /// How far it has come.
    pub(crate) phase: Phase,
    /// Whether it is frozen.
    pub(crate) paused: bool,
    /// The process that engines watch.
    pub(crate) monitor: ProcessRef,
    /// The virtual machine, once it has been started or joined.
    pub(crate) vmm: Option<ProcessRef>,
    /// Its cgroup on the host; absent if an ordinary user may not have one.
    pub(crate) cgroup: Option<HostCgroup>,
    /// The network namespace that the monitor is in, if it is not the host's.
    pub(crate) network: Option<Namespace>,
    /// Namespaces of the host that stand for the container's: who is given one of them joins its sandbox.
    pub(crate) namespaces: Vec<HostNamespace>,
}

/// A namespace of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostNamespace {
    kind: NamespaceKind,
    /// Which one.
    pub(crate) id: NamespaceId,
}

impl HostNamespace {
    /// The one at `path`.
    pub(crate) fn of(kind: NamespaceKind, path: &Path) -> io::Result<Self> {
        let id = NamespaceId::of(path)?;
        Ok(Self { kind, id })
    }
}

#[cfg(test)]
impl Record {
    /// Of a container that `monitor` serves, and that has come to `phase`.
    pub(crate) fn sample(phase: Phase, monitor: ProcessRef) -> Self {
        Self {
            version: VERSION,
            id: "c1".into(),
            oci_version: "1.0.2".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            owner: 0,
            annotations: BTreeMap::new(),
            hooks: None,
            phase,
            paused: false,
            monitor,
            vmm: None,
            cgroup: None,
            network: None,
            namespaces: Vec::new(),
        }
    }
}

/// How far a container has come by the commands given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// `create` has not finished.
    Creating,
    /// Its program waits for `start`.
    Created,
    /// `start` was given.
    Started,
}

/// `exit.json`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exit {
    /// Exit code as a shell has it.
    pub(crate) code: u8,
    /// The virtual machine ended first: the code says nothing about the program.
    pub(crate) machine_died: bool,
    /// The guest's kernel has killed a process of the container because memory ran out.
    pub(crate) oom_killed: bool,
}

/// Status of a container, by runc's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// `create` has not finished.
    Creating,
    /// Its program waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its program has ended, or what served it has.
    Stopped,
}

impl Status {
    /// As `state` and `list` print it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the container is complete and has not ended.
    pub(crate) fn has_processes(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused)
    }
}

impl Record {
    /// A container that is being created.
    pub(crate) fn new(id: &ContainerId, bundle: &Bundle, monitor: ProcessRef) -> Self {
        let annotations = bundle.spec.annotations().iter().flatten();
        Self {
            version: VERSION,
            id: id.to_string(),
            oci_version: bundle.spec.version().clone(),
            bundle: bundle.dir.clone(),
            rootfs: bundle.rootfs.clone(),
            created: clock::now_rfc3339(),
            owner: getuid().as_raw(),
            annotations: annotations
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            hooks: bundle.spec.hooks().clone(),
            phase: Phase::Creating,
            paused: false,
            monitor,
            vmm: None,
            cgroup: None,
            network: None,
            namespaces: Vec::new(),
        }
    }

    /// The status; `exit` is the container's `exit.json`, if there is one.
    pub(crate) fn status(&self, exit: Option<Exit>) -> Status {
        if exit.is_some() || !self.monitor.is_alive() {
            return Status::Stopped;
        }
        match self.phase {
            Phase::Creating => Status::Creating,
            _ if self.paused => Status::Paused,
            Phase::Created => Status::Created,
            Phase::Started => Status::Running,
        }
    }
}

/// What `state`, `list` and hooks see: keys and order are runc's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View<'a> {
    oci_version: &'a str,
    id: &'a str,
    /// The monitor's; 0 once stopped.
    pub(crate) pid: i32,
    /// The status.
    pub(crate) status: Status,
    /// The bundle's directory.
    pub(crate) bundle: &'a Path,
    rootfs: &'a Path,
    /// When it was made.
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Who made it; runc leaves this empty in `state`.
    pub(crate) owner: String,
}

impl<'a> View<'a> {
    /// The container as it is now.
    pub(crate) fn new(record: &'a Record, status: Status) -> Self {
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped {
                0
            } else {
                record.monitor.pid
            },
            status,
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: String::new(),
        }
    }

    /// Columns of `list`.
    pub(crate) fn columns(&self) -> [String; 6] {
        [
            self.id.to_owned(),
            self.pid.to_string(),
            self.status.as_str().to_owned(),
            self.bundle.display().to_string(),
            self.created.to_owned(),
            self.owner.clone(),
        ]
    }
}
