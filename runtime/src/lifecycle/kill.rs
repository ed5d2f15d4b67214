//! `kill`: a signal for a container's first process, or for all of them.

use protocol::rpc::{ErrorCode, Request};
use rustix::process::Signal;

use super::LifecycleError;
use crate::agent_client::{AgentClient, AgentError};
use crate::sandbox::SOCKET;
use crate::state::{ContainerId, Root, Status};

/// Sends a signal. runc's text for a container that is gone is what engines look for.
pub(crate) fn kill(
    root: &Root,
    id: &ContainerId,
    signal: i32,
    all: bool,
) -> Result<(), LifecycleError> {
    let not_running = || LifecycleError::WrongState("container not running".to_owned());
    let (record, status) = root.read(id)?;
    if status == Status::Stopped {
        // Nothing of a stopped container is left that a signal for all could reach.
        return if all { Ok(()) } else { Err(not_running()) };
    }
    if signal == 0 {
        // Asks only whether somebody is there.
        return Ok(());
    }
    let request = Request::Signal {
        id: id.to_string(),
        exec: None,
        signal,
        all,
    };
    let socket = root.path_of(id).join(SOCKET);
    let sent = AgentClient::connect(&socket).and_then(|mut agent| agent.done(&request));
    match sent {
        Ok(()) => Ok(()),
        Err(AgentError::Refused {
            code: ErrorCode::NotFound | ErrorCode::WrongState,
            ..
        }) => Err(not_running()),
        Err(AgentError::Refused { code, message }) => {
            Err(AgentError::Refused { code, message }.into())
        }
        Err(error) => match record.vmm.and_then(crate::process::ProcessRef::hold) {
            // The machine has ended in between.
            None => Err(not_running()),
            // A guest that does not answer must not escape: the machine is what can be killed.
            Some(machine) if signal == Signal::KILL.as_raw() => {
                machine.signal(Signal::KILL);
                Ok(())
            }
            Some(_) => Err(error.into()),
        },
    }
}
