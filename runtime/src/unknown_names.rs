//! Names that newer callers use and this runtime does not know: namespaces and capabilities. A container is made without
//! them, with a warning each, as runc does with capabilities: whoever asks for less isolation or power than is known
//! here loses nothing, and newer engines keep working.

use oci_spec::runtime::{Capability, LinuxNamespaceType};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whether the trouble with a field of the spec may be such a name.
pub(crate) fn may_be_in(field: &str) -> bool {
    field.starts_with("linux.namespaces") || field.starts_with("process.capabilities")
}

/// Takes them out of a spec.
pub(crate) fn leave_out(spec: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let namespaces = spec.pointer_mut("/linux/namespaces");
    if let Some(namespaces) = namespaces.and_then(Value::as_array_mut) {
        retain::<LinuxNamespaceType>(
            namespaces,
            |namespace| &namespace["type"],
            "linux.namespaces",
            &mut warnings,
        );
    }
    let sets = spec.pointer_mut("/process/capabilities");
    for (set, names) in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(names) = names.as_array_mut() {
            let field = format!("process.capabilities.{set}");
            retain::<Capability>(names, |name| name, &field, &mut warnings);
        }
    }
    warnings
}

/// Keeps the entries whose name is a `T`, and those without a name, which are wrong in another way.
fn retain<T: DeserializeOwned>(
    entries: &mut Vec<Value>,
    name: impl Fn(&Value) -> &Value,
    field: &str,
    warnings: &mut Vec<String>,
) {
    entries.retain(|entry| {
        let name = name(entry);
        let known = !name.is_string() || serde_json::from_value::<T>(name.clone()).is_ok();
        if !known {
            warnings.push(format!("{field}: {name} is not known, and left out"));
        }
        known
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_names_are_left_out_and_told() {
        let mut spec = json!({
            "linux": {"namespaces": [{"type": "pid"}, {"type": "colour"}, {"type": "time"}, {"type": 3}]},
            "process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_FLY"], "effective": []}},
        });
        let warnings = leave_out(&mut spec);
        let kept = json!([{"type": "pid"}, {"type": "time"}, {"type": 3}]);
        assert_eq!(spec["linux"]["namespaces"], kept);
        assert_eq!(
            spec["process"]["capabilities"]["bounding"],
            json!(["CAP_CHOWN"])
        );
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("colour") && warnings[1].contains("CAP_FLY"));
    }
}
