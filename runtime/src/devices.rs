//! Device nodes that a spec asks for. Their numbers are the host's, and other kernels give other numbers: each node gets
//! the name that the host's kernel has for the device, by which the guest finds its own of that name.
//!
//! A privileged container's spec lists every device of the host. It gets every device of the guest; those of the host
//! are given one by one only, and block devices not at all.

use std::fs;

use protocol::rpc::DEVICE_NAME;
use serde_json::{Value, json};

/// A device that cannot be given to a guest.
#[derive(Debug, thiserror::Error)]
#[error(
    "field \"linux.devices[{index}]\": {path} is the block device {name:?} of the host, which a guest cannot have"
)]
pub(crate) struct DeviceError {
    index: usize,
    path: String,
    name: String,
}

/// Names the devices of a spec.
pub(crate) fn name_all(spec: &mut Value) -> Result<(), DeviceError> {
    let privileged = allows_everything(spec);
    let devices = spec.pointer_mut("/linux/devices");
    let devices = devices.and_then(Value::as_array_mut).into_iter().flatten();
    for (index, device) in devices.enumerate() {
        let is_block = device["type"] == "b";
        let number = |field| device.get(field).and_then(Value::as_i64);
        let numbers = number("major").zip(number("minor"));
        let Some(name) = numbers.and_then(|numbers| name_of(is_block, numbers)) else {
            continue;
        };
        if is_block && !privileged {
            let path = device["path"].as_str().unwrap_or_default().to_owned();
            return Err(DeviceError { index, path, name });
        }
        device[DEVICE_NAME] = json!(name);
    }
    Ok(())
}

/// Whether a rule opens every device: what `--privileged` becomes.
fn allows_everything(spec: &Value) -> bool {
    let rules = spec.pointer("/linux/resources/devices");
    let rules = rules.and_then(Value::as_array).into_iter().flatten();
    let mut open = rules.filter(|rule| {
        let any = |field: &str| matches!(rule.get(field).and_then(Value::as_i64), None | Some(-1));
        let kind = rule.get("type").and_then(Value::as_str);
        rule["allow"] == true
            && matches!(kind, None | Some("" | "a"))
            && any("major")
            && any("minor")
    });
    open.next().is_some()
}

/// The name below `/dev` that the host's kernel has for a device.
pub(crate) fn name_of(is_block: bool, (major, minor): (i64, i64)) -> Option<String> {
    let kind = if is_block { "block" } else { "char" };
    let facts = fs::read_to_string(format!("/sys/dev/{kind}/{major}:{minor}/uevent")).ok()?;
    let mut names = facts
        .lines()
        .filter_map(|line| line.strip_prefix("DEVNAME="));
    names.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(device: &Value, rules: &Value) -> Value {
        json!({"linux": {"devices": [device], "resources": {"devices": rules}}})
    }

    #[test]
    fn a_device_gets_its_name() {
        let null = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3});
        let mut spec = spec(&null, &json!([]));
        name_all(&mut spec).unwrap();
        assert_eq!(spec["linux"]["devices"][0][DEVICE_NAME], "null");
    }

    #[test]
    fn what_the_host_has_not_is_left_as_it_is() {
        let pipe = json!({"path": "/dev/x", "type": "p"});
        let mut spec = spec(&pipe, &Value::Null);
        name_all(&mut spec).unwrap();
        assert_eq!(spec["linux"]["devices"][0], pipe);
        assert_eq!(name_of(false, (4_000, 4_000)), None);
    }

    #[test]
    fn only_a_rule_without_numbers_opens_everything() {
        let open = |rule: Value| allows_everything(&spec(&Value::Null, &json!([rule])));
        assert!(open(json!({"allow": true, "access": "rwm"})));
        assert!(open(
            json!({"allow": true, "type": "a", "major": -1, "minor": -1})
        ));
        assert!(!open(json!({"allow": false, "access": "rwm"})));
        assert!(!open(json!({"allow": true, "type": "c"})));
        assert!(!open(json!({"allow": true, "type": "a", "major": 10})));
    }
}
