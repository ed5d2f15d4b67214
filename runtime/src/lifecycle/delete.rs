//! `delete`: removes what is left of a container; with force, from any state that a crash can leave.

use rustix::process::getpid;

use super::LifecycleError;
use super::clear::{clear, end_lost_monitor};
use crate::chain::chain;
use crate::hooks;
use crate::log::Log;
use crate::process::{END_LIMIT, ProcessRef};
use crate::state::{ContainerDir, ContainerId, Record, Root, StateError, Status, View};

/// Whether a container may be deleted that has not stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    /// It must have stopped, or not have been started.
    No,
    /// It is killed; and if there is none, that is what was asked for.
    Yes,
}

/// Deletes a container.
pub(crate) fn delete(
    root: &Root,
    id: &ContainerId,
    force: Force,
    log: &Log,
) -> Result<(), LifecycleError> {
    match try_delete(root, id, force, log) {
        Err(LifecycleError::State(StateError::NotFound { .. })) if force == Force::Yes => Ok(()),
        outcome => outcome,
    }
}

fn try_delete(
    root: &Root,
    id: &ContainerId,
    force: Force,
    log: &Log,
) -> Result<(), LifecycleError> {
    let dir = match force {
        Force::No => ContainerDir::lock(root, id)?,
        Force::Yes => lock_by_force(root, id)?,
    };
    let record = match dir.read() {
        Ok((record, status)) => {
            if status == Status::Stopped {
                let_end(&record);
            } else if force == Force::No && status != Status::Created {
                let text = format!(
                    "cannot delete container {id} that is not stopped: {}",
                    status.as_str()
                );
                return Err(LifecycleError::WrongState(text));
            }
            kill_monitor(&record);
            Some(record)
        }
        Err(error @ StateError::Damaged { .. }) if force == Force::Yes => {
            log.warn(&error.to_string());
            end_lost_monitor(&dir);
            None
        }
        Err(error) => return Err(error.into()),
    };
    clear(root, dir, record.as_ref())?;
    if let Some(record) = &record {
        run_poststop(record, log);
    }
    Ok(())
}

/// Takes the lock from a `create` that is under way by ending it.
fn lock_by_force(root: &Root, id: &ContainerId) -> Result<ContainerDir, StateError> {
    if let Some(dir) = ContainerDir::try_lock(root, id)? {
        return Ok(dir);
    }
    if let Ok((record, Status::Creating)) = root.read(id) {
        kill_monitor(&record);
    }
    ContainerDir::lock(root, id)
}

/// The monitor of a stopped container still powers its machine off.
fn let_end(record: &Record) {
    if let Some(monitor) = Some(record.monitor)
        .filter(is_other)
        .and_then(ProcessRef::hold)
    {
        monitor.wait(END_LIMIT);
    }
}

/// The container ends with it: the agent kills what its connection made, and a machine that nobody holds ends.
fn kill_monitor(record: &Record) {
    let monitor = Some(record.monitor).filter(is_other);
    if let Some(held) = monitor.and_then(ProcessRef::hold) {
        held.end();
    }
}

/// `run` in the foreground is the monitor of the container that it deletes at its end.
fn is_other(process: &ProcessRef) -> bool {
    process.pid != getpid().as_raw_nonzero().get()
}

fn run_poststop(record: &Record, log: &Log) {
    let poststop = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_ref());
    // The container is gone: a failure here is only told (OCI runtime spec, "Poststop").
    if let Err(error) = hooks::run("poststop", poststop, &View::new(record, Status::Stopped)) {
        log.error(&chain(&error));
    }
}
