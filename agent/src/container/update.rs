//! `Update`: other limits for a container, by the library that set those it was made with.

use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::v2::manager::Manager;
use libcontainer::oci_spec::runtime::LinuxResources;
use protocol::rpc::{ErrorCode, Reply};
use serde_json::Value;

use super::{Call, Containers, Failure};
use crate::boot::cgroups::{Cgroup, MOUNT};

impl Containers {
    pub(crate) fn update(&self, id: &str, resources: Value) -> Call {
        let container = self.get(id)?;
        if container.stopped() {
            let message = format!("container {id} is stopped");
            return Err(Failure::new(ErrorCode::WrongState, message));
        }
        let resources: LinuxResources = serde_json::from_value(resources)
            .map_err(|error| Failure::caused(ErrorCode::Invalid, &error))?;
        let path = PathBuf::from(Cgroup::spec_path(id));
        let manager = Manager::new(Path::new(MOUNT).to_owned(), path)
            .map_err(|error| Failure::internal("find the cgroup", &error))?;
        let options = ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        // A refusal is the kernel's or the library's answer to a value.
        let applied = manager.apply(&options);
        applied.map_err(|error| Failure::caused(ErrorCode::Invalid, &error))?;
        Ok(Reply::Done {})
    }
}
