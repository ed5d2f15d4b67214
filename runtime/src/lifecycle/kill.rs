//! `kill`: a signal for a container's first process, or for all of them.

use protocol::rpc::{ErrorCode, Request};
use rustix::process::Signal;

use super::LifecycleError;
use super::neighbours::companions;
use crate::agent_client::{AgentClient, AgentError};
use crate::process::Held;
use crate::sandbox::SOCKET;
use crate::state::{ContainerId, Record, Root, Status};

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
            // A guest that does not answer must not escape.
            Some(machine) if signal == Signal::KILL.as_raw() => {
                end(root, &record, &machine);
                Ok(())
            }
            Some(_) => Err(error.into()),
        },
    }
}

/// Ends a container without its guest's help: by its machine, or where others live in that, by its monitor. The agent ends what has
/// lost its monitor.
fn end(root: &Root, record: &Record, machine: &Held) {
    let shared = companions(root, record).any(|(_, status)| status != Status::Stopped);
    match record.monitor.hold().filter(|_| shared) {
        Some(monitor) => monitor.signal(Signal::KILL),
        None if shared => {}
        None => machine.signal(Signal::KILL),
    }
}
