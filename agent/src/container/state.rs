//! `State` of one container.

use protocol::rpc::{ContainerState, Reply};

use super::{Call, Containers, Phase};
use crate::locked;

impl Containers {
    pub(crate) fn state(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let phase = *locked(&container.phase);
        let state = match phase {
            _ if container.stopped() => ContainerState::Stopped,
            Phase::Created => ContainerState::Created,
            Phase::Running => ContainerState::Running,
            Phase::Paused { .. } => ContainerState::Paused,
        };
        let pid = match state {
            ContainerState::Stopped => 0,
            _ => container.init.pid(),
        };
        Ok(Reply::State { state, pid })
    }
}
