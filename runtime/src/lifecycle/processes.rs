//! `ps`: the processes of a container, as the guest's kernel sees them.

use protocol::rpc::Process;

use super::LifecycleError;
use crate::agent_client::AgentClient;
use crate::sandbox::SOCKET;
use crate::state::{ContainerId, Root};

/// In the order of their ids.
pub(crate) fn processes(root: &Root, id: &ContainerId) -> Result<Vec<Process>, LifecycleError> {
    let mut agent = AgentClient::connect(&root.path_of(id).join(SOCKET))?;
    let mut processes = agent.processes(id.as_str())?;
    processes.sort_by_key(|process| process.pid);
    Ok(processes)
}
