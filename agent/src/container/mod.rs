//! The containers of this guest, and the calls on them, one file each.
//!
//! ```text
//!             Create             Start            Pause
//!  (no id) ------------> created -----> running <------> paused     A created container can be paused, too.
//!                           |              |     Resume    |
//!                           |  its first process has ended |
//!                           +----------> stopped <---------+
//!                           |              |
//!                           +--- Delete ---+--> (no id)           Delete with force: from every state
//! ```
//!
//! `stopped` is not stored: it is that the first process has a status.

mod bpf;
mod copy;
mod create;
mod cwd;
mod delete;
mod device_rules;
mod devices;
mod exec;
mod executor;
pub(crate) mod helper;
pub(crate) mod id_maps;
mod join;
mod late_mounts;
mod late_sysctls;
mod launch;
mod lifelines;
mod links;
mod oom;
mod order;
mod pause;
mod process;
mod processes;
mod program;
mod resize;
mod seccomp;
mod signal;
mod start;
mod start_hooks;
mod state;
mod stats;
mod update;
mod wait;

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use protocol::rpc::{ErrorCode, Reply};
use serde_json::Value;

pub(crate) use self::lifelines::Lifelines;
use self::process::Process;
use crate::boot::cgroups::Cgroup;
use crate::boot::reaper::Reaper;
use crate::locked;
use crate::rpc::streams::Streams;

/// Bundles (`config.json`) of the containers.
const BUNDLES: &str = "/run/husk/containers";

/// State directories of libcontainer.
const LIBCONTAINER: &str = "/run/husk/libcontainer";

/// Most containers in one guest.
const MAX_CONTAINERS: usize = 1024;

/// Most processes started by `Exec` that one container keeps, ended ones included.
const MAX_EXECS: usize = 1024;

/// Longest id, which is a file name.
const MAX_ID: usize = 255;

/// What carrying out a call gives.
pub(crate) type Call = Result<Reply, Failure>;

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: String) -> Self {
        Self { code, message }
    }

    /// With the whole chain of causes as its message. A cause that its effect already quotes is not repeated.
    pub(crate) fn caused(code: ErrorCode, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self { code, message }
    }

    /// Of something that should not fail, named by `doing`.
    fn internal(doing: &str, error: &dyn Error) -> Self {
        let mut failure = Self::caused(ErrorCode::Internal, error);
        failure.message = format!("cannot {doing}: {}", failure.message);
        failure
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_reply(self) -> Reply {
        Reply::Failed {
            code: self.code,
            message: self.message,
        }
    }
}

/// What the agent last did to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Running,
    Paused {
        /// What it was before.
        started: bool,
    },
}

/// One container.
#[derive(Debug)]
struct Container {
    id: String,
    cgroup: Cgroup,
    init: Arc<Process>,
    phase: Mutex<Phase>,
    execs: Mutex<HashMap<String, Arc<Process>>>,
    /// Capabilities of its first process.
    granted: Value,
}

impl Container {
    fn stopped(&self) -> bool {
        self.init.exit().status().is_some()
    }

    /// Refuses unless the container is in a phase that is `wanted`, and has not stopped. Holds the phase for the caller.
    fn in_phase(
        &self,
        wanted: &str,
        is_wanted: impl Fn(Phase) -> bool,
    ) -> Result<std::sync::MutexGuard<'_, Phase>, Failure> {
        let phase = locked(&self.phase);
        if self.stopped() || !is_wanted(*phase) {
            let is = if self.stopped() {
                "stopped"
            } else {
                phase.name()
            };
            let message = format!("container {} is {is}, not {wanted}", self.id);
            return Err(Failure::new(ErrorCode::WrongState, message));
        }
        Ok(phase)
    }

    /// The first process, or the one named.
    fn process(&self, exec: Option<&str>) -> Result<Arc<Process>, Failure> {
        let Some(exec) = exec else {
            return Ok(Arc::clone(&self.init));
        };
        let found = locked(&self.execs).get(exec).map(Arc::clone);
        found.ok_or_else(|| {
            let message = format!("container {} has no process {exec}", self.id);
            Failure::new(ErrorCode::NotFound, message)
        })
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
        }
    }
}

/// All containers. An id that is being created is taken, and has no container yet.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    by_id: Mutex<HashMap<String, Option<Arc<Container>>>>,
    reaper: Reaper,
    streams: Streams,
}

impl Containers {
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    fn get(&self, id: &str) -> Result<Arc<Container>, Failure> {
        let found = locked(&self.by_id).get(id).cloned().flatten();
        found.ok_or_else(|| {
            Failure::new(
                ErrorCode::NotFound,
                format!("container {id} does not exist"),
            )
        })
    }

    /// Kills every process of every container.
    pub(crate) fn kill_all(&self) {
        let all: Vec<_> = locked(&self.by_id).values().flatten().cloned().collect();
        for container in all {
            if let Err(error) = container.cgroup.kill() {
                crate::boot::poweroff::say(&format!(
                    "husk-agent: cannot kill container {}: {error}",
                    container.id
                ));
            }
        }
    }
}

/// Refuses a name that is not one plain path component.
fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    let plain = !name.is_empty()
        && name.len() <= MAX_ID
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0']);
    if plain {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let message = format!("{what} {shown:?} is not a plain name of 1 to {MAX_ID} bytes");
    Err(Failure::new(ErrorCode::Invalid, message))
}

/// The directory with a container's `config.json`.
fn bundle(id: &str) -> PathBuf {
    Path::new(BUNDLES).join(id)
}

/// libcontainer's directory of a container.
fn libcontainer_state(id: &str) -> PathBuf {
    Path::new(LIBCONTAINER).join(id)
}
