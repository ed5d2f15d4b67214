//! Why a command on a container failed. Texts that engines look for are runc's.

use std::path::PathBuf;

use super::neighbours::NeighbourError;
use crate::agent_client::AgentError;
use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::hooks::HooksError;
use crate::host_view::HostViewError;
use crate::monitor::{DetachError, StdioError};
use crate::network::NetworkError;
use crate::rootless::RootlessError;
use crate::sandbox::SandboxError;
use crate::state::{IdError, StateError};
use crate::translate::TranslateError;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifecycleError {
    /// The id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What the bundle asks for.
    #[error("config.json cannot be run in a guest")]
    Translate(#[from] TranslateError),
    /// What an ordinary user cannot have.
    #[error(transparent)]
    Rootless(#[from] RootlessError),
    /// The host's cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The sandbox that it is to join.
    #[error(transparent)]
    Neighbour(#[from] NeighbourError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The virtual machine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The standard streams.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// Hooks.
    #[error(transparent)]
    Hooks(#[from] HooksError),
    /// The host's view of the container's files.
    #[error(transparent)]
    HostView(#[from] HostViewError),
    /// The monitor.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// The container's first process cannot be made. The cause has runc's text.
    #[error("unable to start container process")]
    Process(#[source] AgentError),
    /// A further process cannot be made. The cause has runc's text.
    #[error("unable to start container process")]
    Exec(#[source] AgentError),
    /// The guest's cgroup does not take a limit.
    #[error("cannot update the container's limits")]
    Update(#[source] AgentError),
    /// A memory limit is beyond the machine's memory.
    #[error(
        "memory limit of {bytes} bytes is more than the {most} bytes that the sandbox was made for"
    )]
    Memory {
        /// The limit.
        bytes: u64,
        /// The highest possible one.
        most: u64,
    },
    /// The config of the container's machine cannot be read back.
    #[error("cannot read {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another call to the agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The container's state does not allow the command.
    #[error("{0}")]
    WrongState(String),
    /// No process of the host can stand for one of the guest.
    #[error("cannot show the container's processes on the host")]
    Mirror(#[source] std::io::Error),
    /// The process's own identity or signals cannot be had.
    #[error("cannot set up the monitor")]
    Monitor(#[source] std::io::Error),
}
