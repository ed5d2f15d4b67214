//! The `config.json` of a bundle: what the image says, and for the rest what engines give a container.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use crate::contents::Contents;
use crate::tree::Tree;

use super::{BundleError, Process};
use crate::accounts::{self, User};

/// What runs when neither the image nor anybody else says what.
const SHELL: &str = "sh";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What engines let a container do by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The configuration of the container.
pub(super) fn config(
    (tree, contents): (&Tree, &Contents),
    image: Option<&ImageConfiguration>,
    process: &Process<'_>,
) -> Result<Value, BundleError> {
    let settings = image.and_then(|image| image.config().as_ref());
    let named = settings
        .and_then(|settings| settings.user().as_deref())
        .unwrap_or_default();
    let user = accounts::find(tree, contents, named)?;
    let directory = settings
        .and_then(|settings| settings.working_dir().as_deref())
        .unwrap_or_default();
    let directory = if directory.is_empty() { "/" } else { directory };
    if !directory.starts_with('/') {
        return Err(BundleError::WorkingDirectory(directory.to_owned()));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": process.terminal,
            "user": numbers(&user),
            "args": arguments(image, process),
            "env": environment(image, process),
            "cwd": directory,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": false,
        },
        "root": {"path": "rootfs"},
        "hostname": "husk",
        "mounts": mounts(),
        "annotations": annotations(image),
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }))
}

fn numbers(user: &User) -> Value {
    let mut numbers = json!({"uid": user.uid, "gid": user.gid});
    if !user.groups.is_empty() {
        numbers["additionalGids"] = json!(user.groups);
    }
    numbers
}

/// The entry point of the image, and after it the arguments that were given, or else those of the image.
fn arguments(image: Option<&ImageConfiguration>, process: &Process<'_>) -> Vec<String> {
    let settings = image.and_then(|image| image.config().as_ref());
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let mut arguments = list(settings.and_then(|settings| settings.entrypoint().as_ref()));
    if process.arguments.is_empty() {
        arguments.extend(list(settings.and_then(|settings| settings.cmd().as_ref())));
    } else {
        arguments.extend_from_slice(process.arguments);
    }
    if arguments.is_empty() {
        vec![SHELL.to_owned()]
    } else {
        arguments
    }
}

fn environment(image: Option<&ImageConfiguration>, process: &Process<'_>) -> Vec<String> {
    let settings = image.and_then(|image| image.config().as_ref());
    let mut all = settings
        .and_then(|settings| settings.env().clone())
        .unwrap_or_default();
    if !all.iter().any(|one| one.starts_with("PATH=")) {
        all.insert(0, PATH.to_owned());
    }
    if process.terminal && !all.iter().any(|one| one.starts_with("TERM=")) {
        all.push("TERM=xterm".to_owned());
    }
    all
}

/// What the image says of itself. Its labels are annotations too, and win over what is made of other fields.
fn annotations(image: Option<&ImageConfiguration>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let Some(image) = image else { return all };
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            all.insert(format!("org.opencontainers.image.{name}"), value);
        }
    };
    add("os", Some(image.os().to_string()));
    add("architecture", Some(image.architecture().to_string()));
    add("author", image.author().clone());
    add("created", image.created().clone());
    let settings = image.config().as_ref();
    let mut ports = settings
        .and_then(|settings| settings.exposed_ports().clone())
        .unwrap_or_default();
    ports.sort();
    add("exposedPorts", Some(ports.join(",")));
    add(
        "stopSignal",
        settings.and_then(|settings| settings.stop_signal().clone()),
    );
    all.extend(
        settings
            .and_then(|settings| settings.labels().clone())
            .unwrap_or_default(),
    );
    all
}

fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}
