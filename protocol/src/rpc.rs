//! The agent's calls: one [`Request`] frame from the host, one [`Reply`] frame back, in order, on one connection.
//!
//! A call that waits (`Wait`) blocks its connection only: the host opens one connection for each thing it waits for.

use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::stream::{Stdio, WindowSize};

/// Field of a device in a spec's `linux.devices`: its name below `/dev`, where the numbers are another kernel's.
pub const DEVICE_NAME: &str = "husk.name";

/// Where the guest mounts the sandbox's virtio-fs device. Each share is a directory or file below it.
pub const SHARES_DIR: &str = "/run/husk/shares";

/// virtio-fs tag of that device.
pub const SHARES_TAG: &str = "husk";

/// Extended attribute of [`SHARES_DIR`] that the agent sets when the machine is about to end. From then on a `sync` of the guest
/// brings its writes to the host's kernel, as the end of any process does, and not to the host's disk: that could wait for
/// whatever else is being written there.
pub const LAST_SYNC: &str = "user.husk.last_sync";

/// One call. `id` is the container's; `exec` names a further process in it, absent for the container's first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// First call of every connection. Refused unless `version` is the agent's own.
    Hello {
        /// [`crate::VERSION`] of the host.
        version: u32,
    },
    /// Sets up the interfaces of the guest's first network namespace.
    Network {
        /// How.
        network: Box<Network>,
    },
    /// Makes a container; its process waits for `Start`. The container is deleted by force when the connection that carried
    /// this call closes: its monitor is gone.
    Create(Box<Create>),
    /// Lets a created container's process run the user's program.
    Start {
        /// Container id.
        id: String,
    },
    /// Runs a further process in a container. The process is killed if it still runs when the connection that
    /// carried this call closes: its monitor is gone.
    Exec {
        /// Container id.
        id: String,
        /// Name of the process, unique in its container.
        exec: String,
        /// The OCI `process` object.
        process: Box<serde_json::Value>,
        /// Its standard streams.
        stdio: Stdio,
    },
    /// Sends a signal.
    Signal {
        /// Container id.
        id: String,
        /// The process; the container's first if absent.
        exec: Option<String>,
        /// Signal number, 1..=64.
        signal: i32,
        /// To every process of the container.
        all: bool,
    },
    /// Changes a terminal's size.
    Resize {
        /// Container id.
        id: String,
        /// The process; the container's first if absent.
        exec: Option<String>,
        /// The new size.
        size: WindowSize,
    },
    /// Answers when the process has ended; at once if it already has.
    Wait {
        /// Container id.
        id: String,
        /// The process; the container's first if absent.
        exec: Option<String>,
    },
    /// State of one container.
    State {
        /// Container id.
        id: String,
    },
    /// Processes of one container.
    Processes {
        /// Container id.
        id: String,
    },
    /// Resource use of one container.
    Stats {
        /// Container id.
        id: String,
    },
    /// Answers when the kernel has killed a process of the container for want of memory more than `seen` times, or with
    /// `WrongState` when the container has stopped.
    WaitOom {
        /// Container id.
        id: String,
        /// `oom_kill` of `memory.events` as last heard of.
        seen: u64,
    },
    /// Changes limits of a container that has not stopped.
    Update {
        /// Container id.
        id: String,
        /// The OCI `linux.resources` object. What it does not name stays as it is.
        resources: Box<serde_json::Value>,
    },
    /// Freezes a container.
    Pause {
        /// Container id.
        id: String,
    },
    /// Thaws a container.
    Resume {
        /// Container id.
        id: String,
    },
    /// Removes a stopped container; with `force`, kills it first.
    Delete {
        /// Container id.
        id: String,
        /// Kill it if it still runs.
        force: bool,
    },
    /// Kills every container, writes everything back, and powers the guest off. Answered once it is written back.
    Shutdown {},
}

/// "The namespace of this kind that container X is in."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The kind.
    pub kind: NamespaceKind,
    /// Id of a container in the same guest whose first process has not ended.
    pub container: String,
}

/// Kinds of namespace that containers of one guest can share, by the names of the OCI runtime spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceKind {
    /// Control groups.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Interfaces, addresses, ports.
    Network,
    /// Process ids.
    Pid,
    /// User and group ids.
    User,
    /// Host name and domain name.
    Uts,
}

impl NamespaceKind {
    /// Its name in `linux.namespaces[].type`.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::Network => "network",
            other => other.file_name(),
        }
    }

    /// Its name below `/proc/<pid>/ns`.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Cgroup,
        Self::Ipc,
        Self::Network,
        Self::Pid,
        Self::User,
        Self::Uts,
    ];
}

/// The answer to one [`Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// [`crate::VERSION`] of the agent.
        version: u32,
        /// `uname -r` of the guest.
        kernel: String,
    },
    /// The call was carried out and has nothing to say.
    Done {},
    /// To `Create` and `Exec`.
    Started {
        /// Process id in the guest's first pid namespace.
        pid: i32,
    },
    /// To `Wait`.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The guest's kernel has killed a process of the container, sooner or later, because memory ran out.
        oom_killed: bool,
    },
    /// To `State`.
    State {
        /// The container's state.
        state: ContainerState,
        /// Guest pid of its first process, 0 once stopped.
        pid: i32,
    },
    /// To `Processes`.
    Processes {
        /// One entry a process.
        processes: Vec<Process>,
    },
    /// To `Stats`.
    Stats {
        /// The figures.
        stats: Box<Stats>,
    },
    /// To `WaitOom`.
    Oom {
        /// `oom_kill` of `memory.events` now.
        kills: u64,
    },
    /// The call failed and changed nothing.
    Failed {
        /// What kind of failure.
        code: ErrorCode,
        /// One line, the whole chain of causes.
        message: String,
    },
}

/// Kinds of failure that the host reacts to differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// `Hello` is missing or has another version.
    Version,
    /// No such container or process.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The container is in a state that does not allow the call.
    WrongState,
    /// A field of the request is not usable; the message names it.
    Invalid,
    /// The program does not exist in the container (shells say 127).
    ProgramNotFound,
    /// The program may not be executed (shells say 126).
    ProgramNotExecutable,
    /// Anything else.
    Internal,
}

/// States of a container (OCI runtime spec, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

/// A container to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Container id, unique in the guest.
    pub id: String,
    /// The OCI runtime spec (`config.json`) with every path as the guest sees it, and without hooks.
    pub spec: serde_json::Value,
    /// Namespaces of other containers in the guest that this one joins. The spec has an entry of each kind, without a path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<Join>,
    /// What the first process runs before the user's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<StartHooks>,
    /// Standard streams of the first process.
    pub stdio: Stdio,
}

/// Hooks of the kind `startContainer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartHooks {
    /// OCI `Hook` objects, in order.
    pub hooks: serde_json::Value,
    /// The OCI state that they get, but for its `pid`.
    pub state: serde_json::Value,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It returned this code, 0..=255.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The code a shell reports: the program's own, or 128 plus the signal.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// One process of a container, as the guest's `/proc` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Guest pid, in the guest's first pid namespace.
    pub pid: i32,
    /// Guest pid of its parent.
    pub ppid: i32,
    /// Effective user id in the guest.
    pub uid: u32,
    /// Processor time used, in clock ticks (100 a second).
    pub cpu_ticks: u64,
    /// Start, in clock ticks after the guest's boot.
    pub start_ticks: u64,
    /// The controlling terminal's device number, 0 if none.
    pub tty: u32,
    /// Command line; the name in brackets if it has none.
    pub command: String,
}

/// Resource use of a container in its guest cgroup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// `cpu.stat`, by key.
    pub cpu: std::collections::BTreeMap<String, u64>,
    /// `memory.stat`, by key.
    pub memory: std::collections::BTreeMap<String, u64>,
    /// `memory.current`, bytes.
    pub memory_current: u64,
    /// `memory.max`, bytes; absent if unlimited.
    pub memory_limit: Option<u64>,
    /// `memory.events`, by key.
    pub memory_events: std::collections::BTreeMap<String, u64>,
    /// `pids.current`.
    pub pids_current: u64,
    /// `pids.max`; absent if unlimited.
    pub pids_limit: Option<u64>,
    /// `io.stat`, one entry a device.
    pub io: Vec<IoStats>,
}

/// One line of `io.stat`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoStats {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// The counters, by key.
    pub counters: std::collections::BTreeMap<String, u64>,
}
