//! `Create`: from an OCI spec to a container whose process waits for `Start`.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use libcontainer::container::{ContainerStatus, State};
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::LinuxCapabilities;
use protocol::rpc::{Create, ErrorCode, Reply};
use protocol::stream::Stdio;
use serde_json::{Map, Value};

use super::bpf::Instruction;
use super::order::{Late, Task};
use super::{
    Call, Container, Containers, Failure, Lifelines, MAX_CONTAINERS, Phase, bpf, cwd, device_rules,
    devices, id_maps, late_mounts, late_sysctls, seccomp, start_hooks,
};
use crate::boot::cgroups::Cgroup;
use crate::boot::mounts;
use crate::locked;

/// The sets of `process.capabilities`.
const CAPABILITY_SETS: [&str; 5] = [
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
];

impl Containers {
    pub(crate) fn create(&self, create: Create, lifelines: &mut Lifelines) -> Call {
        let Create {
            id,
            mut spec,
            join,
            hooks,
            stdio,
        } = create;
        super::check_name("container id", &id)?;
        let mut claim = self.reserve(&id)?;
        self.join(&mut spec, &join)?;
        let mut spec = guest_spec(spec, &id, &stdio)?;
        mounts::mount_shares().map_err(|error| Failure::caused(ErrorCode::Internal, &error))?;
        devices::choose(&mut spec)?;
        let rules = device_rules::program(&spec)?;
        check_mounts(&spec)?;
        let processes = take_process_limit(&mut spec);
        let granted = spec.pointer("/process/capabilities").cloned();
        id_maps::install().map_err(|error| Failure::internal("make the id mappers", &error))?;
        let late = Late {
            mounts: late_mounts::take(&mut spec),
            sysctls: late_sysctls::take(&mut spec)?,
            capabilities: permit_inheritable(&mut spec)?,
            hooks: hooks.map(start_hooks::take).transpose()?,
        };
        let made = confine(&id, &rules).and_then(|()| self.make(&id, &spec, late, &stdio));
        let made = made.and_then(|container| {
            let limited = processes.map_or(Ok(()), |limit| {
                container.cgroup.write("pids.max", &limit.to_string())
            });
            let limited = limited.map_err(|error| Failure::internal("set pids.max", &error));
            limited.map(|()| container)
        });
        let mut container = made.inspect_err(|_| discard(&id))?;
        container.granted = granted.unwrap_or_default();
        let pid = container.init.pid();
        let container = Arc::new(container);
        claim.fill(Arc::clone(&container));
        lifelines.hold(container);
        Ok(Reply::Started { pid })
    }

    fn make(
        &self,
        id: &str,
        spec: &Value,
        late: Late,
        stdio: &Stdio,
    ) -> Result<Container, Failure> {
        let write = |error| Failure::internal("write the spec", &error);
        let bundle = super::bundle(id);
        fs::create_dir_all(&bundle).map_err(write)?;
        fs::write(bundle.join("config.json"), spec.to_string()).map_err(write)?;
        let wiring = self.wire(stdio)?;
        cwd::make(spec);
        let launched = self.launch(id, Task::Create(Box::new(late)), wiring, stdio);
        let init = launched.map_err(|failure| {
            let text = |pointer| spec.pointer(pointer).and_then(Value::as_str);
            let root = Path::new(text("/root/path").unwrap_or("/"));
            cwd::explain_first(failure, root, text("/process/cwd"))
        })?;
        // libcontainer runs further processes in a running container only; engines do it in a created one, too.
        record_running(id).map_err(|error| Failure::internal("record the container", &error))?;
        Ok(Container {
            id: id.to_owned(),
            cgroup: Cgroup::of(id),
            init: Arc::new(init),
            phase: Mutex::new(Phase::Created),
            execs: Mutex::default(),
            granted: Value::Null,
        })
    }

    /// Takes an id, before anything is made for it.
    fn reserve<'a>(&'a self, id: &'a str) -> Result<Claim<'a>, Failure> {
        let mut by_id = locked(&self.by_id);
        if by_id.contains_key(id) {
            let message = format!("container {id} exists");
            return Err(Failure::new(ErrorCode::AlreadyExists, message));
        }
        if by_id.len() >= MAX_CONTAINERS {
            let message = format!("a guest holds at most {MAX_CONTAINERS} containers");
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
        by_id.insert(id.to_owned(), None);
        Ok(Claim {
            containers: self,
            id,
        })
    }
}

/// A taken id, given back unless a container takes its place.
struct Claim<'a> {
    containers: &'a Containers,
    id: &'a str,
}

impl Claim<'_> {
    fn fill(&mut self, container: Arc<Container>) {
        locked(&self.containers.by_id).insert(self.id.to_owned(), Some(container));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut by_id = locked(&self.containers.by_id);
        if by_id.get(self.id).is_some_and(Option::is_none) {
            by_id.remove(self.id);
        }
    }
}

/// `Exec` asks libcontainer, and libcontainer asks its file.
fn record_running(id: &str) -> Result<(), LibcontainerError> {
    let directory = super::libcontainer_state(id);
    let mut state = State::load(&directory)?;
    state.status = ContainerStatus::Running;
    Ok(state.save(&directory)?)
}

/// Takes the limit of processes out of a spec: those that make the container do not count. As in runc, zero is no limit.
fn take_process_limit(spec: &mut Value) -> Option<i64> {
    let resources = spec.pointer_mut("/linux/resources")?.as_object_mut()?;
    let limit = resources.remove("pids")?.get("limit")?.as_i64()?;
    (limit > 0).then_some(limit)
}

/// Permits what is inheritable, too: libcontainer permits first, and then only what is permitted can become inheritable.
/// Gives what the process is to be left with in the end, if that is less.
fn permit_inheritable(spec: &mut Value) -> Result<Option<LinuxCapabilities>, Failure> {
    let Some(sets) = spec.pointer_mut("/process/capabilities") else {
        return Ok(None);
    };
    let names = |set: &str| sets[set].as_array().cloned().unwrap_or_default();
    let mut permitted = names("permitted");
    let missing = names("inheritable");
    let missing = missing.into_iter().filter(|name| !permitted.contains(name));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let granted = serde_json::from_value(sets.clone());
    let granted = granted.map_err(|error| Failure::caused(ErrorCode::Invalid, &error))?;
    permitted.extend(missing);
    sets["permitted"] = permitted.into();
    Ok(Some(granted))
}

/// Refuses a file system that the kernel does not have, which libcontainer does not name.
fn check_mounts(spec: &Value) -> Result<(), Failure> {
    let known = fs::read_to_string("/proc/filesystems");
    let known = known.map_err(|error| Failure::internal("list the file systems", &error))?;
    let mounts = spec.get("mounts").and_then(Value::as_array);
    for (index, mount) in mounts.into_iter().flatten().enumerate() {
        let options = mount.get("options").and_then(Value::as_array);
        let bind = options
            .into_iter()
            .flatten()
            .any(|o| o == "bind" || o == "rbind");
        let kind = mount.get("type").and_then(Value::as_str).unwrap_or("bind");
        let source = mount.get("source").and_then(Value::as_str);
        let source = source.filter(|source| bind && source.starts_with("/dev/"));
        if let Some(device) = source.filter(|device| !Path::new(device).exists()) {
            let message = format!("mounts[{index}].source: the guest has no device {device:?}");
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
        let known = || {
            known
                .lines()
                .any(|line| line.rsplit('\t').next() == Some(kind))
        };
        if !(bind || matches!(kind, "bind" | "cgroup") || known()) {
            let message = format!("mounts[{index}].type: the guest has no file system {kind:?}");
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
    }
    Ok(())
}

/// Makes the container's cgroup, whose processes may use the devices that the rules allow.
fn confine(id: &str, rules: &[Instruction]) -> Result<(), Failure> {
    let made = Cgroup::of(id).create();
    let cgroup = made.map_err(|error| Failure::internal("make the cgroup", &error))?;
    bpf::attach_to_cgroup(rules, cgroup)
        .map_err(|error| Failure::internal("apply linux.resources.devices", &error))
}

/// Removes what a failed `Create` may have left.
fn discard(id: &str) {
    if let Err(error) = super::delete::remove_traces(id) {
        crate::boot::poweroff::say(&format!("husk-agent: container {id} left traces: {error}"));
    }
}

/// The spec with what the agent decides: where the cgroup is, and whether there is a terminal.
fn guest_spec(mut spec: Value, id: &str, stdio: &Stdio) -> Result<Value, Failure> {
    let linux = object(&mut spec, "linux")?;
    linux.insert("cgroupsPath".to_owned(), Cgroup::spec_path(id).into());
    set_up_process(object(&mut spec, "process")?, stdio);
    seccomp::exchange_masks(&mut spec);
    Ok(spec)
}

/// The same for an OCI `process` object.
pub(super) fn set_up_process(process: &mut Map<String, Value>, stdio: &Stdio) {
    let terminal = matches!(stdio, Stdio::Terminal { .. });
    process.insert("terminal".to_owned(), terminal.into());
    // libcontainer takes any value as a wish, and then loads seccomp filters when it is no longer allowed to.
    if process.get("noNewPrivileges") == Some(&Value::Bool(false)) {
        process.remove("noNewPrivileges");
    }
    // libcontainer leaves what it is not told about, and what is not granted is not had.
    let sets = process.entry("capabilities").or_insert(Value::Null);
    if sets.is_null() {
        *sets = Value::Object(Map::new());
    }
    if let Some(sets) = sets.as_object_mut() {
        for set in CAPABILITY_SETS {
            let names = sets.entry(set).or_insert_with(|| Value::Array(Vec::new()));
            if names.is_null() {
                *names = Value::Array(Vec::new());
            }
        }
    }
}

fn object<'a>(spec: &'a mut Value, field: &str) -> Result<&'a mut Map<String, Value>, Failure> {
    let found = spec.get_mut(field).and_then(Value::as_object_mut);
    found.ok_or_else(|| {
        let message = format!("spec.{field} is missing or not an object");
        Failure::new(ErrorCode::Invalid, message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PIPES: Stdio = Stdio::Pipes {
        stdin: None,
        stdout: None,
        stderr: None,
    };

    #[test]
    fn the_agent_places_the_cgroup_and_the_terminal() {
        let spec = json!({
            "linux": {"cgroupsPath": "/elsewhere"},
            "process": {"terminal": true, "noNewPrivileges": false},
        });
        let spec = guest_spec(spec, "a", &PIPES).unwrap();
        assert_eq!(spec["linux"]["cgroupsPath"], "/husk/a");
        assert_eq!(spec["process"]["terminal"], false);
        assert!(spec["process"].get("noNewPrivileges").is_none());
    }

    #[test]
    fn no_capability_is_had_that_is_not_granted() {
        let capabilities = |process: Value| {
            let spec = json!({"linux": {}, "process": process});
            guest_spec(spec, "a", &PIPES).unwrap()["process"]["capabilities"].take()
        };
        let mut none = json!({});
        for set in CAPABILITY_SETS {
            none[set] = json!([]);
        }
        assert_eq!(capabilities(json!({})), none);
        assert_eq!(
            capabilities(json!({"capabilities": {"effective": null}})),
            none
        );
        let chown = json!(["CAP_CHOWN"]);
        let some = capabilities(json!({"capabilities": {"bounding": chown}}));
        assert_eq!(
            (&some["bounding"], &some["effective"]),
            (&chown, &json!([]))
        );
    }

    #[test]
    fn a_spec_without_its_parts_is_refused_by_field() {
        for (spec, field) in [
            (json!(null), "spec.linux"),
            (json!([]), "spec.linux"),
            (json!({"linux": {}}), "spec.process"),
            (json!({"linux": {}, "process": 3}), "spec.process"),
        ] {
            let failure = guest_spec(spec, "a", &PIPES).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Invalid);
            assert!(failure.message.starts_with(field), "{}", failure.message);
        }
    }

    #[test]
    fn an_id_is_taken_while_it_is_being_created_and_free_after_a_failure() {
        let containers = Containers::default();
        let claim = containers.reserve("a").unwrap();
        let failure = containers.reserve("a").map(drop).unwrap_err();
        assert_eq!(failure.code, ErrorCode::AlreadyExists);
        assert_eq!(containers.get("a").unwrap_err().code, ErrorCode::NotFound);
        drop(claim);
        assert!(containers.reserve("a").is_ok());
    }
}
