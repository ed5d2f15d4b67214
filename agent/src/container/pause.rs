//! `Pause` and `Resume`, by the cgroup freezer.

use protocol::rpc::Reply;

use super::{Call, Containers, Failure, Phase};

impl Containers {
    pub(crate) fn pause(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let mut phase = container.in_phase("created or running", |phase| {
            !matches!(phase, Phase::Paused { .. })
        })?;
        if let Err(error) = container.cgroup.freeze() {
            // Half frozen is worse than not: the failure is told either way.
            drop(container.cgroup.thaw());
            return Err(Failure::internal("freeze the container", &error));
        }
        *phase = Phase::Paused {
            started: *phase == Phase::Running,
        };
        Ok(Reply::Done {})
    }

    pub(crate) fn resume(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let mut phase =
            container.in_phase("paused", |phase| matches!(phase, Phase::Paused { .. }))?;
        let thawed = container.cgroup.thaw();
        thawed.map_err(|error| Failure::internal("thaw the container", &error))?;
        *phase = match *phase {
            Phase::Paused { started: false } => Phase::Created,
            _ => Phase::Running,
        };
        Ok(Reply::Done {})
    }
}
