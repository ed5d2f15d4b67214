//! `update`: other limits for a container that has not stopped.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use protocol::rpc::Request;
use protocol::sandbox::{MAX_CONFIG, SandboxConfig};
use serde_json::Value;

use super::LifecycleError;
use crate::agent_client::AgentClient;
use crate::cpu_weight;
use crate::sandbox::{CONFIG, SOCKET, limit_of};
use crate::state::{ContainerDir, ContainerId, Root, SandboxDir, Status};

/// Gives the container the limits that `resources` names. Zeros and empty texts name nothing, as in runc.
pub(crate) fn update(
    root: &Root,
    id: &ContainerId,
    resources: &LinuxResources,
) -> Result<(), LifecycleError> {
    let dir = ContainerDir::lock(root, id)?;
    let (record, status) = dir.read()?;
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(LifecycleError::WrongState(
            "container not running".to_owned(),
        ));
    }
    let asked = resources
        .memory()
        .as_ref()
        .and_then(|memory| memory.limit());
    let machine = read_config(&dir)?;
    check_memory(asked, &machine)?;
    let request = Request::Update {
        id: id.to_string(),
        resources: Box::new(for_guest(resources)?),
    };
    let updated = AgentClient::connect(&dir.file(SOCKET))?.done(&request);
    updated.map_err(LifecycleError::Update)?;
    if let Some(cgroup) = &record.cgroup {
        cgroup.update(id.as_str(), resources, machine.memory.size_mib)?;
    }
    Ok(())
}

/// More memory than the machine has cannot be given.
fn check_memory(asked: Option<i64>, machine: &SandboxConfig) -> Result<(), LifecycleError> {
    let most = limit_of(machine.memory.size_mib);
    match asked.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) if bytes > most => Err(LifecycleError::Memory { bytes, most }),
        _ => Ok(()),
    }
}

fn read_config(dir: &ContainerDir) -> Result<SandboxConfig, LifecycleError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source: io::Error| LifecycleError::Config { path, source }
    };
    let missing = || failed(dir.path())(io::ErrorKind::NotFound.into());
    let path = SandboxDir::of(dir.path()).ok_or_else(missing)?.file(CONFIG);
    let read = || {
        let mut text = Vec::new();
        File::open(&path)?.take(MAX_CONFIG).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().map_err(failed(&path))
}

/// What the guest's cgroup can take: without what is unset, and without the numbers of the host's processors and devices.
fn for_guest(resources: &LinuxResources) -> Result<Value, LifecycleError> {
    let mut resources = resources.clone();
    cpu_weight::from_shares(&mut resources);
    let mut resources =
        serde_json::to_value(&resources).map_err(|error| LifecycleError::Monitor(error.into()))?;
    if let Some(cpu) = resources.get_mut("cpu").and_then(Value::as_object_mut) {
        cpu.remove("cpus");
        cpu.remove("mems");
    }
    resources.as_object_mut().map(|all| all.remove("blockIO"));
    for group in ["memory", "cpu", "pids"] {
        let Some(fields) = resources.get_mut(group).and_then(Value::as_object_mut) else {
            continue;
        };
        fields.retain(|_, value| *value != 0);
        if fields.is_empty() {
            resources.as_object_mut().map(|all| all.remove(group));
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_guest_gets_what_is_set_and_is_its_own() {
        let resources: LinuxResources = serde_json::from_value(json!({
            "memory": {"limit": 0, "swap": -1},
            "cpu": {"shares": 0, "quota": 0, "cpus": "0-63", "mems": ""},
            "blockIO": {"weight": 0},
            "pids": {"limit": 7},
            "unified": {"memory.high": "0"},
        }))
        .unwrap();
        assert_eq!(
            for_guest(&resources).unwrap(),
            json!({"memory": {"swap": -1}, "pids": {"limit": 7}, "unified": {"memory.high": "0"}})
        );
    }

    #[test]
    fn memory_that_the_machine_does_not_have_is_refused() {
        let machine = json!({
            "boot": {"kernel": "/k", "cmdline": ""},
            "memory": {"size_mib": 256},
            "devices": [],
        });
        let machine: SandboxConfig = serde_json::from_value(machine).unwrap();
        for (asked, allowed) in [
            (None, true),
            (Some(-1), true),
            (Some(192 << 20), true),
            (Some((192 << 20) + 1), false),
            (Some(i64::MAX), false),
        ] {
            assert_eq!(check_memory(asked, &machine).is_ok(), allowed, "{asked:?}");
        }
    }
}
