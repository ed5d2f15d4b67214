//! Capabilities that newer callers name and this runtime does not know. A container is made without them, with a warning
//! each, as runc does: whoever asks for less power than is known here loses nothing, and newer engines keep working. An
//! unknown namespace is refused, as runc does: its container would be less isolated than asked for.

use oci_spec::runtime::Capability;
use serde_json::Value;

/// Whether the trouble with a field of the spec may be such a name.
pub(crate) fn may_be_in(field: &str) -> bool {
    field.starts_with("process.capabilities")
}

/// Takes them out of a spec.
pub(crate) fn leave_out(spec: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let sets = spec.pointer_mut("/process/capabilities");
    for (set, names) in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(names) = names.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            // What is no name is wrong in another way.
            let known =
                !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                warnings.push(format!(
                    "process.capabilities.{set}: {name} is not known, and left out"
                ));
            }
            known
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_capabilities_are_left_out_and_told() {
        let namespaces = json!([{"type": "pid"}, {"type": "colour"}]);
        let mut spec = json!({
            "linux": {"namespaces": namespaces},
            "process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_FLY", 3], "effective": []}},
        });
        let warnings = leave_out(&mut spec);
        assert_eq!(spec["linux"]["namespaces"], namespaces);
        let kept = json!(["CAP_CHOWN", 3]);
        assert_eq!(spec["process"]["capabilities"]["bounding"], kept);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("CAP_FLY"));
    }
}
