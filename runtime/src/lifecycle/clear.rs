//! What a container has outside its own processes: its part of the sandbox, and its directory.

use protocol::rpc::{ErrorCode, Request};

use super::LifecycleError;
use super::neighbours::companions;
use crate::agent_client::{AgentClient, AgentError};
use crate::cgroup::HostCgroup;
use crate::process::{Held, ProcessRef, find_by_argument, find_by_open_file};
use crate::sandbox::{CONFIG, Install, SOCKET, SandboxError, ShareList};
use crate::state::{ContainerDir, LIFE, Record, Root, SandboxDir};

/// Removes a container whose monitor is gone, and with the last one of a sandbox the sandbox. `record` is missing if it is damaged.
pub(super) fn clear(
    root: &Root,
    dir: ContainerDir,
    record: Option<&Record>,
) -> Result<(), LifecycleError> {
    if !remove_sandbox(&dir, record)? {
        let machine = record.and_then(|record| record.vmm);
        if let Some(held) = machine.and_then(ProcessRef::hold)
            && let Err(error) = leave_guest(&dir)
            && !is_missing(&error)
        {
            // A guest that does not let go of a container must not keep it: the machine is what can be killed.
            held.end();
        }
        detach(&dir, machine)?;
    }
    if let Some(record) = record {
        remove_cgroup(root, record)?;
    }
    Ok(dir.remove()?)
}

/// Removes the container's cgroup. A machine in it that serves others goes to the cgroup of one of them.
fn remove_cgroup(root: &Root, record: &Record) -> Result<(), LifecycleError> {
    let Some(cgroup) = &record.cgroup else {
        return Ok(());
    };
    if let Some(machine) = record.vmm.filter(|machine| machine.is_alive())
        && cgroup.has(machine.pid)
    {
        cgroup.hand_over(machine.pid, heir(root, record).as_ref())?;
    }
    Ok(cgroup.remove()?)
}

/// The cgroup of another container of the same machine.
fn heir(root: &Root, record: &Record) -> Option<HostCgroup> {
    companions(root, record).find_map(|(other, _)| other.cgroup.filter(HostCgroup::is_made))
}

/// Ends the monitor that a damaged record does not name. It holds the sandbox, and was started with the container's id.
pub(super) fn end_lost_monitor(dir: &ContainerDir) {
    if let Some(sandbox) = SandboxDir::of(dir.path()) {
        let id = dir.id().as_str();
        find_by_open_file(id, &sandbox.file(LIFE))
            .iter()
            .for_each(Held::end);
    }
}

/// Removes what a failed `create` has made. The agent has heard of its end, if it heard of its beginning.
pub(super) fn withdraw(dir: ContainerDir, record: Option<&Record>) -> Result<(), LifecycleError> {
    if !remove_sandbox(&dir, record)? {
        detach(&dir, record.and_then(|record| record.vmm))?;
    }
    Ok(dir.remove()?)
}

/// Removes the container's sandbox, if nobody lives in it; says whether nothing of it is left.
fn remove_sandbox(dir: &ContainerDir, record: Option<&Record>) -> Result<bool, LifecycleError> {
    let Some(sandbox) = SandboxDir::of(dir.path()) else {
        return Ok(true);
    };
    if !sandbox.path().exists() {
        return Ok(true);
    }
    let Some(last) = sandbox.hold_last()? else {
        return Ok(false);
    };
    // Also finds the machine that a damaged or missing record does not name.
    let named = record.and_then(|record| record.vmm?.hold());
    let found = find_by_argument(&sandbox.file(CONFIG));
    named.iter().chain(&found).for_each(Held::end);
    if let Some(namespace) = record.and_then(|record| record.network.as_ref()) {
        namespace.clean()?;
    }
    sandbox.remove(last)?;
    Ok(true)
}

/// Takes the container out of the guest, where others live on.
fn leave_guest(dir: &ContainerDir) -> Result<(), AgentError> {
    let (id, force) = (dir.id().to_string(), true);
    AgentClient::connect(&dir.file(SOCKET))?.done(&Request::Delete { id, force })
}

/// The agent deletes a container by itself when its monitor is gone.
fn is_missing(error: &AgentError) -> bool {
    let missing = ErrorCode::NotFound;
    matches!(error, AgentError::Refused { code, .. } if *code == missing)
}

/// Takes the container's files away from a machine that runs on.
fn detach(dir: &ContainerDir, machine: Option<ProcessRef>) -> Result<(), LifecycleError> {
    let Some(machine) = machine.filter(|machine| machine.is_alive()) else {
        return Ok(());
    };
    let install = Install::find().map_err(SandboxError::Install)?;
    match ShareList::of(dir.path()).detach(&install, machine) {
        Err(SandboxError::Ended) => Ok(()),
        outcome => Ok(outcome?),
    }
}
