//! The container's seccomp filter for its further processes, which libcontainer 0.7 leaves out.
//!
//! libcontainer loads filters before it gives up capabilities, or with `no_new_privs`; a filter cannot be loaded
//! otherwise. What runs last in the new process is the executor, when capabilities are gone. So the process keeps
//! the two it needs until then: one to load the filter, one to take both away again for good.

use std::error::Error;

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{Capability, LinuxCapabilities, LinuxSeccomp, Process};
use libcontainer::syscall::linux::LinuxSyscall;
use serde_json::Value;

/// Kept until the filter is loaded: for the filter, and for the bounding set.
const NEEDED: [Capability; 2] = [Capability::SysAdmin, Capability::Setpcap];

/// A filter to load, and the capabilities that then remain.
pub(super) struct LateFilter {
    seccomp: LinuxSeccomp,
    /// `None` if the process gives up none, or needs none for the filter.
    remaining: Option<LinuxCapabilities>,
}

impl LateFilter {
    /// Takes the filter for `process`, which is changed to keep the capabilities that loading it needs.
    pub(super) fn prepare(seccomp: LinuxSeccomp, process: &mut Process) -> Self {
        let mut remaining = None;
        if process.no_new_privileges() != Some(true)
            && let Some(granted) = process.capabilities()
        {
            let granted = granted.clone();
            process.set_capabilities(Some(with_needed(&granted)));
            remaining = Some(granted);
        }
        Self { seccomp, remaining }
    }

    /// Loads the filter and gives up what it needed.
    pub(super) fn apply(&self) -> Result<(), Box<dyn Error>> {
        let listener = libcontainer::seccomp::initialize_seccomp(&self.seccomp)?;
        if listener.is_some() {
            return Err("a filter that notifies a listener is not supported for exec".into());
        }
        if let Some(remaining) = &self.remaining {
            drop_privileges(remaining, &LinuxSyscall)?;
        }
        Ok(())
    }
}

/// Exchanges mask and value of masked comparisons: libcontainer 0.7 takes one for the other.
pub(super) fn exchange_masks(spec: &mut Value) {
    let rules = spec.pointer_mut("/linux/seccomp/syscalls");
    let rules = rules.and_then(Value::as_array_mut).into_iter().flatten();
    let arguments = rules.filter_map(|rule| rule.get_mut("args").and_then(Value::as_array_mut));
    for argument in arguments.flatten() {
        if argument["op"] == "SCMP_CMP_MASKED_EQ" {
            let mask = argument["value"].take();
            let value = argument["valueTwo"].take();
            argument["value"] = if value.is_null() { 0.into() } else { value };
            argument["valueTwo"] = mask;
        }
    }
}

fn with_needed(granted: &LinuxCapabilities) -> LinuxCapabilities {
    let mut kept = granted.clone();
    let add = |set: &Option<_>| {
        let mut set: libcontainer::oci_spec::runtime::Capabilities =
            set.clone().unwrap_or_default();
        set.extend(NEEDED);
        Some(set)
    };
    let bounding = add(granted.bounding());
    let effective = add(granted.effective());
    let permitted = add(granted.permitted());
    kept.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        serde_json::from_str(json).unwrap()
    }

    fn filter() -> LinuxSeccomp {
        serde_json::from_str(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap()
    }

    #[test]
    fn a_process_keeps_what_the_filter_needs_and_gets_back_to_what_it_was_granted() {
        let json = r#"{"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}}"#;
        let mut process = process(json);
        let granted = process.capabilities().clone().unwrap();
        let late = LateFilter::prepare(filter(), &mut process);
        let kept = process.capabilities().clone().unwrap();
        for set in [kept.bounding(), kept.effective(), kept.permitted()] {
            assert!(
                NEEDED
                    .iter()
                    .all(|needed| set.as_ref().unwrap().contains(needed))
            );
        }
        assert_eq!(kept.ambient(), granted.ambient());
        assert_eq!(late.remaining, Some(granted));
    }

    #[test]
    fn masks_are_exchanged_with_values() {
        let masked = |first: u64, second: u64| {
            serde_json::json!({"linux": {"seccomp": {"syscalls": [
                {"names": ["mkdir"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": first, "valueTwo": second, "op": "SCMP_CMP_MASKED_EQ"},
                    {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"},
                ]},
            ]}}})
        };
        let mut spec = masked(7, 2);
        exchange_masks(&mut spec);
        assert_eq!(spec, masked(2, 7));
    }

    #[test]
    fn no_new_privileges_needs_no_capability() {
        let json = r#"{"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": []}}"#;
        let mut process = process(json);
        let before = process.clone();
        let late = LateFilter::prepare(filter(), &mut process);
        assert_eq!(process, before);
        assert_eq!(late.remaining, None);
    }
}
