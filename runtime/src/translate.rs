//! The OCI spec as the guest sees it: paths of the host become paths of shares, numbers that only mean something on
//! the host go, and what cannot be done is refused by name.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Process};
use protocol::rpc::{Join, SHARES_DIR};
use protocol::sandbox::ShareConfig;

use crate::binds::{self, BindError, Source};
use crate::bundle::Bundle;
use crate::cpu_weight;
use crate::devices::{self, DeviceError};
use crate::lifecycle::kind_of;
use crate::mount_checks::{self, MountCheckError};
use crate::state::ContainerId;
use crate::sysctl::{self, SysctlError};

/// That the loopback interface has no IPv6.
const LOOPBACK_IPV6: &str = "net.ipv6.conf.lo.disable_ipv6";
/// That no interface has.
const ALL_IPV6: &str = "net.ipv6.conf.all.disable_ipv6";

/// Most bind mounts of a container.
const MAX_BINDS: usize = 1024;

/// Why a spec cannot be run in a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranslateError {
    /// The field asks for something that does not exist in a guest.
    #[error("field {field:?} is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// A bind mount.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// More than [`MAX_BINDS`] bind mounts.
    #[error("field \"mounts\" has more than {MAX_BINDS} bind mounts")]
    TooManyBinds,
    /// A device that a guest cannot have.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A mount that must not be made.
    #[error(transparent)]
    Mount(#[from] MountCheckError),
    /// A kernel parameter that must not be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The spec cannot be written as JSON again.
    #[error("config.json cannot be passed on")]
    Json(#[source] serde_json::Error),
}

/// What the guest gets.
#[derive(Debug)]
pub(crate) struct Translated {
    /// The spec, with the guest's paths.
    pub(crate) spec: serde_json::Value,
    /// Directories and files of the host that it refers to.
    pub(crate) shares: Vec<ShareConfig>,
    /// What was left out, a line each.
    pub(crate) warnings: Vec<String>,
}

/// Translates a bundle's spec. `joins` are the namespaces that it shares with containers of its machine.
pub(crate) fn translate(
    bundle: &Bundle,
    id: &ContainerId,
    joins: &[Join],
) -> Result<Translated, TranslateError> {
    let mut spec = bundle.spec.clone();
    let mut warnings = Vec::new();
    mount_checks::check(bundle.spec.mounts().as_deref().unwrap_or_default())?;
    let rootfs = share_name(id, "rootfs");
    if let Some(root) = spec.root_mut() {
        root.set_path(guest_path(&rootfs));
    }
    // The guest makes missing mount points in it, as runc does, before it makes its own view read-only.
    let mut shares = vec![ShareConfig {
        name: rootfs,
        source: bundle.rootfs.clone(),
        read_only: false,
        recursive: true,
    }];
    let mounts = spec.mounts_mut().iter_mut().flatten();
    for (index, mount) in mounts
        .enumerate()
        .filter(|(_, mount)| binds::is_bind(mount))
    {
        let path = match binds::source(mount, index, bundle)? {
            Source::Guest(path) => path,
            Source::Host(source) => {
                let name = share_name(id, &format!("m{index}"));
                let path = guest_path(&name);
                shares.push(binds::share(mount, name, source));
                path
            }
        };
        mount.set_source(Some(path));
    }
    if shares.len() > MAX_BINDS {
        return Err(TranslateError::TooManyBinds);
    }
    if let Some(linux) = spec.linux_mut() {
        translate_linux(linux, id, joins, &mut warnings)?;
    }
    if let Some(process) = spec.process_mut() {
        translate_process(process, &mut warnings);
    }
    // The runtime runs them on the host, or has the agent run them (`hooks`).
    spec.set_hooks(None);
    let mut spec = serde_json::to_value(&spec).map_err(TranslateError::Json)?;
    devices::name_all(&mut spec)?;
    Ok(Translated {
        spec,
        shares,
        warnings,
    })
}

/// Puts the container into the guest's first network namespace, where the machine's devices are.
pub(crate) fn use_guests_network(spec: &mut serde_json::Value) {
    let namespaces = spec.pointer_mut("/linux/namespaces");
    if let Some(namespaces) = namespaces.and_then(serde_json::Value::as_array_mut) {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
}

/// Takes IPv6 from the container's loopback interface, unless the spec says itself what is to be.
pub(crate) fn disable_loopback_ipv6(spec: &mut serde_json::Value) {
    let says = |name: &str| {
        let name = name.replace('/', ".");
        name == LOOPBACK_IPV6 || name == ALL_IPV6
    };
    let Some(linux) = spec
        .get_mut("linux")
        .and_then(serde_json::Value::as_object_mut)
    else {
        return;
    };
    let sysctl = linux
        .entry("sysctl")
        .or_insert_with(|| serde_json::json!({}));
    if let Some(sysctl) = sysctl.as_object_mut()
        && !sysctl.keys().any(|name| says(name))
    {
        sysctl.insert(LOOPBACK_IPV6.to_owned(), "1".into());
    }
}

/// Takes out of a process what belongs to the host.
pub(crate) fn translate_process(process: &mut Process, warnings: &mut Vec<String>) {
    if process
        .apparmor_profile()
        .as_ref()
        .is_some_and(|profile| !profile.is_empty())
    {
        warnings
            .push("process.apparmorProfile: the host's profiles do not exist in the guest".into());
        process.set_apparmor_profile(None);
    }
    if process
        .selinux_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty())
    {
        warnings.push("process.selinuxLabel: the host's policy does not exist in the guest".into());
        process.set_selinux_label(None);
    }
}

fn translate_linux(
    linux: &mut Linux,
    id: &ContainerId,
    joins: &[Join],
    warnings: &mut Vec<String>,
) -> Result<(), TranslateError> {
    let unsupported = |field| TranslateError::Unsupported { field };
    if linux.intel_rdt().is_some() {
        return Err(unsupported("linux.intelRdt"));
    }
    let seccomp = linux.seccomp().as_ref();
    if seccomp.is_some_and(|seccomp| seccomp.listener_path().is_some()) {
        return Err(unsupported("linux.seccomp.listenerPath"));
    }
    sysctl::check(linux)?;
    mount_checks::check_propagation(linux)?;
    // libcontainer knows the plain names; the root file system is one mount here.
    let propagation = linux.rootfs_propagation().as_deref().unwrap_or_default();
    let plain = propagation
        .strip_prefix('r')
        .unwrap_or(propagation)
        .to_owned();
    linux.set_rootfs_propagation((!plain.is_empty()).then_some(plain));
    linux.set_cgroups_path(Some(Path::new("/").join(id.as_str())));
    linux.set_mount_label(None);
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        if namespace.path().is_some() {
            let kind = namespace.typ();
            namespace.set_path(None);
            // The monitor has joined it (`network`).
            if kind == LinuxNamespaceType::Network {
                continue;
            }
            if !joins.iter().any(|join| kind_of(kind) == Some(join.kind)) {
                warnings.push(format!(
                    "linux.namespaces: the host's {kind:?} namespace is not joined"
                ));
            }
        }
    }
    if let Some(resources) = linux.resources_mut() {
        translate_resources(resources);
    }
    Ok(())
}

/// What the host's cgroup limits alone: its numbers of processors, nodes and devices mean something else in the guest.
fn translate_resources(resources: &mut LinuxResources) {
    cpu_weight::from_shares(resources);
    if let Some(cpu) = resources.cpu_mut() {
        cpu.set_cpus(None);
        cpu.set_mems(None);
    }
    resources.set_block_io(None);
    // These have no effect anywhere (`cgroup` says so).
    resources.set_rdma(None);
    resources.set_network(None);
}

fn share_name(id: &ContainerId, part: &str) -> String {
    format!("{id}-{part}")
}

fn guest_path(share: &str) -> PathBuf {
    Path::new(SHARES_DIR).join(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn bundle(change: impl FnOnce(&mut Value)) -> Bundle {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/a", "type": "bind", "source": "/tmp", "options": ["rbind", "ro"]},
                {"destination": "/b", "type": "none", "source": "x", "options": ["bind"]},
            ],
            "hooks": {"poststop": [{"path": "/bin/true"}], "startContainer": [{"path": "/in/guest"}]},
            "linux": {
                "cgroupsPath": "a.slice:b:c",
                "namespaces": [{"type": "network", "path": "/run/netns/x"}, {"type": "ipc", "path": "/x"}],
                "resources": {"cpu": {"cpus": "0-63", "shares": 100}},
            },
        });
        change(&mut spec);
        let spec = serde_json::from_value(spec).unwrap();
        Bundle {
            dir: "/".into(),
            rootfs: "/bundle/rootfs".into(),
            spec,
            unknown: Vec::new(),
        }
    }

    fn id() -> ContainerId {
        ContainerId::parse("c1").unwrap()
    }

    #[test]
    fn paths_of_the_host_become_shares() {
        let mut bundle = bundle(|spec| spec["mounts"][2]["source"] = json!("etc/passwd"));
        bundle.dir = "/".into();
        let Translated { spec, shares, .. } = translate(&bundle, &id(), &[]).unwrap();
        assert_eq!(spec["root"]["path"], format!("{SHARES_DIR}/c1-rootfs"));
        assert_eq!(spec["mounts"][0]["source"], "proc");
        assert_eq!(spec["mounts"][1]["source"], format!("{SHARES_DIR}/c1-m1"));
        let seen: Vec<_> = shares
            .iter()
            .map(|share| (share.source.to_str().unwrap(), share.read_only))
            .collect();
        assert_eq!(
            seen,
            [
                ("/bundle/rootfs", false),
                ("/tmp", true),
                ("/etc/passwd", false)
            ]
        );
    }

    #[test]
    fn what_belongs_to_the_host_stays_there() {
        let bundle = bundle(|spec| spec["mounts"] = json!([]));
        let Translated { spec, warnings, .. } = translate(&bundle, &id(), &[]).unwrap();
        assert_eq!(spec["linux"]["cgroupsPath"], "/c1");
        assert_eq!(
            spec["linux"]["namespaces"],
            json!([{"type": "network"}, {"type": "ipc"}])
        );
        assert_eq!(
            spec["linux"]["resources"],
            json!({"cpu": {}, "unified": {"cpu.weight": "4"}})
        );
        assert_eq!(spec.get("hooks"), None);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refuse = |pointer: &'static str, value: Value, field: &str| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let bundle = bundle(|spec| {
                spec["mounts"][2]["source"] = json!("/dev/null");
                spec.pointer_mut(parent).unwrap()[key] = value;
            });
            let error = translate(&bundle, &id(), &[]).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        refuse("/linux/intelRdt", json!({}), "linux.intelRdt");
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"});
        refuse("/linux/seccomp", seccomp, "listenerPath");
        refuse(
            "/mounts/1/source",
            json!("/nowhere/at/all"),
            "mounts[1].source",
        );
        refuse("/mounts/1/source", Value::Null, "mounts[1].source");
    }

    #[test]
    fn ipv6_of_the_loopback_interface_is_the_specs_own_affair_first() {
        for (sysctl, expected) in [
            (json!(null), json!({"net.ipv6.conf.lo.disable_ipv6": "1"})),
            (
                json!({"vm.swappiness": "1"}),
                json!({"vm.swappiness": "1", "net.ipv6.conf.lo.disable_ipv6": "1"}),
            ),
            (
                json!({"net.ipv6.conf.all.disable_ipv6": "0"}),
                json!({"net.ipv6.conf.all.disable_ipv6": "0"}),
            ),
            (
                json!({"net/ipv6/conf/lo/disable_ipv6": "0"}),
                json!({"net/ipv6/conf/lo/disable_ipv6": "0"}),
            ),
        ] {
            let mut spec = json!({"linux": {}});
            if !sysctl.is_null() {
                spec["linux"]["sysctl"] = sysctl;
            }
            disable_loopback_ipv6(&mut spec);
            assert_eq!(spec["linux"]["sysctl"], expected);
        }
    }
}
