//! `Delete`: a container's processes, cgroup and files, gone.

use std::fs;
use std::io;
use std::path::Path;

use protocol::rpc::{ErrorCode, Reply};

use super::{Call, Containers, Failure, Phase};
use crate::boot::cgroups::Cgroup;
use crate::locked;

impl Containers {
    pub(crate) fn delete(&self, id: &str, force: bool) -> Call {
        let container = self.get(id)?;
        // Like runc, a container that was never started is deleted without force.
        let idle = container.stopped() || *locked(&container.phase) == Phase::Created;
        if !idle && !force {
            let message = format!("container {id} is not stopped");
            return Err(Failure::new(ErrorCode::WrongState, message));
        }
        remove_traces(id).map_err(|error| Failure::internal("delete the container", &error))?;
        locked(&self.by_id).remove(id);
        Ok(Reply::Done {})
    }
}

/// Kills whatever runs in the container's cgroup, and removes everything the agent made for it. What is not there is
/// not missed, so that it can be done again.
pub(super) fn remove_traces(id: &str) -> io::Result<()> {
    let cgroup = Cgroup::of(id);
    cgroup.kill()?;
    cgroup.remove()?;
    remove_directory(&super::libcontainer_state(id))?;
    remove_directory(&super::bundle(id))
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
