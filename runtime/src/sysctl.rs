//! Kernel parameters that a spec may set: those of the container's own namespaces, and any of the guest's kernel that
//! belongs to no namespace. The refusals are runc's.

use oci_spec::runtime::{Linux, LinuxNamespaceType};

/// A parameter that must not be set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("field \"linux.sysctl\": {name:?} {problem}")]
pub(crate) struct SysctlError {
    name: String,
    problem: &'static str,
}

/// Parameters of the ipc namespace, beside those of message queues.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Whether each parameter may be set. The guest finds out whether it exists.
pub(crate) fn check(linux: &Linux) -> Result<(), SysctlError> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let own = |kind| namespaces.iter().any(|one| one.typ() == kind);
    for given in linux.sysctl().iter().flat_map(|all| all.keys()) {
        let name = given.replace('/', ".");
        let problem = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            (!own(LinuxNamespaceType::Ipc)).then_some("is not allowed in the hosts ipc namespace")
        } else if name.starts_with("net.") {
            (!own(LinuxNamespaceType::Network)).then_some("not allowed in host network namespace")
        } else if name == "kernel.hostname" {
            Some("conflicts with the OCI \"hostname\" field")
        } else if name == "kernel.domainname" {
            (!own(LinuxNamespaceType::Uts)).then_some("is not in a separate kernel namespace")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(SysctlError {
                name: given.clone(),
                problem,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(name: &str, namespaces: &[&str]) -> Result<(), SysctlError> {
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|kind| json!({"type": kind}))
            .collect();
        let linux = json!({"namespaces": namespaces, "sysctl": {name: "1"}});
        check(&serde_json::from_value(linux).unwrap())
    }

    #[test]
    fn a_parameter_needs_its_namespace() {
        for (name, namespace) in [
            ("kernel.msgmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("net/ipv4/ip_forward", "network"),
            ("kernel.domainname", "uts"),
        ] {
            let error = outcome(name, &["pid"]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(outcome(name, &[namespace]), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_guests_own_parameters_need_none_and_the_host_name_has_a_field() {
        assert_eq!(outcome("vm.max_map_count", &[]), Ok(()));
        assert!(outcome("kernel.hostname", &["uts"]).is_err());
    }
}
