//! What the agent and its helper say to each other, over the socket that is the helper's standard input.
//!
//! The agent sends one byte with the three standard streams attached (`SCM_RIGHTS`), then one framed [`Order`]. The
//! answer is one framed [`Outcome`]: from the new process if its program cannot be run, else from the helper.

use std::path::PathBuf;

use libcontainer::oci_spec::runtime::LinuxCapabilities;
use protocol::rpc::ErrorCode;
use protocol::stream::WindowSize;
use serde::{Deserialize, Serialize};

use super::late_mounts::LateMount;
use super::late_sysctls::Sysctls;
use super::start_hooks::StartHooks;

/// What the helper shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Container id.
    pub(super) id: String,
    /// Which process to make.
    pub(super) task: Task,
    /// Unix socket that wants the master of the process's pseudo-terminal, if it shall have one.
    pub(super) console: Option<PathBuf>,
    /// Initial size of that terminal.
    pub(super) size: Option<WindowSize>,
}

/// Which process to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// The container and its first process.
    Create(Box<Late>),
    /// A further process, described by an OCI `process` object in a file.
    Exec(PathBuf),
}

/// What the helper adds to a container that libcontainer has made, before anybody can start it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Late {
    pub(super) mounts: Vec<LateMount>,
    pub(super) sysctls: Sysctls,
    /// What the process may keep, if that is less than libcontainer needs to grant it.
    pub(super) capabilities: Option<LinuxCapabilities>,
    /// What the process runs before the program.
    pub(super) hooks: Option<StartHooks>,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The process exists.
    Started {
        /// Its pid in the guest's first pid namespace.
        pid: i32,
    },
    /// It does not.
    Failed {
        /// What kind of failure.
        code: ErrorCode,
        /// One line.
        message: String,
    },
}
