//! `start`: lets the program of a created container run.

use protocol::rpc::Request;
use rustix::process::Signal;

use super::LifecycleError;
use crate::agent_client::AgentClient;
use crate::chain::chain;
use crate::hooks;
use crate::log::Log;
use crate::sandbox::SOCKET;
use crate::state::{ContainerDir, ContainerId, Phase, Root, Status, View};

/// Starts a container.
pub(crate) fn start(root: &Root, id: &ContainerId, log: &Log) -> Result<(), LifecycleError> {
    let dir = ContainerDir::lock(root, id)?;
    let (mut record, status) = dir.read()?;
    let refused = match status {
        Status::Created => None,
        Status::Running => Some("cannot start an already running container"),
        Status::Paused => Some("cannot start a container in the paused state"),
        Status::Stopped => Some("cannot start a container that has stopped"),
        Status::Creating => Some("cannot start a container that is being created"),
    };
    if let Some(text) = refused {
        return Err(LifecycleError::WrongState(text.to_owned()));
    }
    let mut agent = AgentClient::connect(&dir.file(SOCKET))?;
    agent
        .done(&Request::Start { id: id.to_string() })
        .map_err(LifecycleError::Process)?;
    record.phase = Phase::Started;
    dir.write(&record)?;
    let view = View::new(&record, Status::Running);
    let poststart = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststart().as_ref());
    hooks::run("poststart", poststart, &view).map_err(|error| {
        // The program runs, and must not without them (OCI runtime spec 1.2.1, "Lifecycle", step 9).
        let end = Request::Signal {
            id: id.to_string(),
            exec: None,
            signal: Signal::KILL.as_raw(),
            all: true,
        };
        if let Err(error) = agent.done(&end) {
            log.warn(&format!("cannot end the container: {}", chain(&error)));
        }
        error.into()
    })
}
