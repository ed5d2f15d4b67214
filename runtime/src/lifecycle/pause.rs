//! `pause` and `resume`: the guest's kernel freezes the container's processes. The machine itself runs on, so that `exec`, `ps`
//! and `delete` are answered, and other containers in it are not touched.

use protocol::rpc::Request;

use super::LifecycleError;
use crate::agent_client::AgentClient;
use crate::sandbox::SOCKET;
use crate::state::{ContainerDir, ContainerId, Root, Status};

/// Freezes a container that is created or running.
pub(crate) fn pause(root: &Root, id: &ContainerId) -> Result<(), LifecycleError> {
    let request = Request::Pause { id: id.to_string() };
    set(root, id, true, &request, |status| match status {
        Status::Created | Status::Running => None,
        _ => Some("container not running"),
    })
}

/// Thaws a paused container.
pub(crate) fn resume(root: &Root, id: &ContainerId) -> Result<(), LifecycleError> {
    let request = Request::Resume { id: id.to_string() };
    set(root, id, false, &request, |status| match status {
        Status::Paused => None,
        _ => Some("container not paused"),
    })
}

fn set(
    root: &Root,
    id: &ContainerId,
    paused: bool,
    request: &Request,
    refusal: impl Fn(Status) -> Option<&'static str>,
) -> Result<(), LifecycleError> {
    let dir = ContainerDir::lock(root, id)?;
    let (mut record, status) = dir.read()?;
    if let Some(text) = refusal(status) {
        return Err(LifecycleError::WrongState(text.to_owned()));
    }
    AgentClient::connect(&dir.file(SOCKET))?.done(request)?;
    record.paused = paused;
    Ok(dir.write(&record)?)
}
