//! Device nodes: a name that came from the host (`protocol::rpc::DEVICE_NAME`) becomes the numbers that this kernel has
//! for it. A container that may use every device gets every character device there is, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use protocol::rpc::{DEVICE_NAME, ErrorCode};
use serde_json::{Value, json};

use super::{Failure, device_rules};
use crate::boot::poweroff::say;

/// Where the kernel makes nodes for its devices.
const NODES: &str = "/dev";

/// Most nodes of one container.
const MAX_NODES: usize = 4096;

/// What every container has its own of, there.
const OWN: [&str; 5] = ["pts", "ptmx", "shm", "mqueue", "console"];

/// Major and minor number.
type Numbers = (u32, u32);

/// Replaces the host's devices in a spec by the guest's.
pub(super) fn choose(spec: &mut Value) -> Result<(), Failure> {
    let privileged = device_rules::allows_everything(spec);
    let Some(wanted) = spec.pointer_mut("/linux/devices") else {
        return if privileged {
            give_all(spec, Vec::new())
        } else {
            Ok(())
        };
    };
    let wanted = wanted
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    if wanted.len() > MAX_NODES {
        return Err(invalid("", &format!("has more than {MAX_NODES} devices")));
    }
    let mut kept = Vec::new();
    let mut missing = 0;
    for (index, device) in wanted.into_iter().enumerate() {
        match translate(spec, device) {
            Ok(Some(device)) => kept.push(device),
            Ok(None) => {}
            Err(_) if privileged => missing += 1,
            Err(problem) => return Err(invalid(&format!("[{index}]"), &problem)),
        }
    }
    if missing > 0 {
        say(&format!(
            "husk-agent: {missing} devices of the host are not the guest's: left out"
        ));
    }
    if privileged {
        return give_all(spec, kept);
    }
    spec["linux"]["devices"] = kept.into();
    Ok(())
}

fn invalid(place: &str, problem: &str) -> Failure {
    let message = format!("linux.devices{place} {problem}");
    Failure::new(ErrorCode::Invalid, message)
}

/// The device as it is in this guest; `None` if every container has its own of it. An error if it cannot be had.
fn translate(spec: &mut Value, mut device: Value) -> Result<Option<Value>, String> {
    let path = device["path"].as_str().unwrap_or_default();
    if !path.starts_with("/dev/") {
        return Err(format!("has the path {path:?}, which is not below /dev"));
    }
    if device["type"] == "b" {
        return Err(format!(
            "is the block device {path:?}, which the guest has not"
        ));
    }
    let fields = device.as_object_mut();
    let name = fields.and_then(|device| device.remove(DEVICE_NAME));
    let Some(name) = name.as_ref().and_then(Value::as_str) else {
        return Ok(Some(device));
    };
    if OWN.contains(&name) {
        return Ok(None);
    }
    let ours = numbers(&Path::new(NODES).join(name));
    let ours = ours.ok_or_else(|| format!("is {name:?}, which the guest has not"))?;
    renumber(spec, &device, ours);
    set(&mut device, ours);
    Ok(Some(device))
}

/// Numbers of a character device.
fn numbers(path: &Path) -> Option<Numbers> {
    // A name from the host leads nowhere else.
    let inside = path
        .components()
        .all(|part| part != std::path::Component::ParentDir);
    let metadata = fs::symlink_metadata(path).ok().filter(|_| inside)?;
    let device = metadata.rdev();
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    metadata.file_type().is_char_device().then_some(numbers)
}

fn set(entry: &mut Value, (major, minor): Numbers) {
    entry["major"] = json!(major);
    entry["minor"] = json!(minor);
}

/// Makes rules that name a device by the host's numbers name it by the guest's.
fn renumber(spec: &mut Value, device: &Value, ours: Numbers) {
    let rules = spec.pointer_mut("/linux/resources/devices");
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
        let same = |field| rule.get(field) == device.get(field);
        if rule["type"] == "c" && same("major") && same("minor") {
            set(rule, ours);
        }
    }
}

/// Adds all that the guest has to what is listed, which comes first.
fn give_all(spec: &mut Value, mut devices: Vec<Value>) -> Result<(), Failure> {
    let mut all = BTreeMap::new();
    collect(Path::new(NODES), &mut all)
        .map_err(|error| Failure::internal("list the devices", &error))?;
    for device in &devices {
        if let Some(path) = device["path"].as_str() {
            all.remove(Path::new(path));
        }
    }
    for (path, (numbers, mode)) in all {
        let mut device = json!({"path": path, "type": "c", "fileMode": mode, "uid": 0, "gid": 0});
        set(&mut device, numbers);
        devices.push(device);
    }
    spec["linux"]["devices"] = devices.into();
    Ok(())
}

fn collect(directory: &Path, found: &mut BTreeMap<PathBuf, (Numbers, u32)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        if kind.is_dir() {
            collect(&path, found)?;
        } else if found.len() < MAX_NODES
            && let Some(numbers) = numbers(&path)
        {
            found.insert(path, (numbers, entry.metadata()?.mode() & 0o7777));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, rules: &Value) -> Value {
        let device =
            json!({"path": "/dev/x", "type": "c", "major": 500, "minor": 600, DEVICE_NAME: name});
        json!({"linux": {"devices": [device], "resources": {"devices": rules}}})
    }

    #[test]
    fn a_name_becomes_this_kernels_numbers_in_nodes_and_rules() {
        let rule = json!({"allow": true, "type": "c", "major": 500, "minor": 600, "access": "r"});
        let mut spec = spec("null", &json!([rule]));
        choose(&mut spec).unwrap();
        let node = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3});
        assert_eq!(spec["linux"]["devices"], json!([node]));
        assert_eq!(spec["linux"]["resources"]["devices"][0]["minor"], 3);
    }

    #[test]
    fn a_device_that_the_guest_has_not_is_named() {
        for name in ["no-such", "../etc/passwd", "fd"] {
            let failure = choose(&mut spec(name, &json!([]))).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Invalid);
            assert!(failure.message.contains(name), "{}", failure.message);
        }
    }

    #[test]
    fn who_may_use_everything_gets_what_there_is() {
        let mut spec = spec("no-such", &json!([{"allow": true, "access": "rwm"}]));
        choose(&mut spec).unwrap();
        let devices = spec["linux"]["devices"].as_array().unwrap();
        let paths: Vec<_> = devices
            .iter()
            .filter_map(|device| device["path"].as_str())
            .collect();
        assert!(paths.contains(&"/dev/null"), "{paths:?}");
        assert!(!paths.contains(&"/dev/x") && !paths.contains(&"/dev/console"));
    }
}
