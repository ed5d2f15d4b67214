//! Bundle to sandbox config: what machine a container needs.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use protocol::rpc::SHARES_TAG;
use protocol::sandbox::{
    BootConfig, CachePolicy, DeviceConfig, FsConfig, MemoryConfig, SandboxConfig, SerialConfig,
    ShareConfig, VsockConfig,
};

use crate::state::SandboxDir;

/// Memory of a machine whose container has no limit, in MiB.
const DEFAULT_MEMORY: u64 = 256;

/// What the guest's kernel and agent use beside a container's limit, in MiB.
const GUEST_OVERHEAD: u64 = 64;

/// The least a guest boots with, in MiB, and the most that is asked for.
const MEMORY_BOUNDS: (u64, u64) = (128, 1 << 20);

/// The guest's context id: local to its machine.
const CID: u32 = 3;

/// The kernel says nothing unless it must: each byte on the serial port is two exits, and `quiet` still lets errors about missing
/// mitigations through, 4 million instructions in all. Keeping the lock prefixes that a single processor could do without saves
/// another 5, for patching them out. A panic powers off at once. The driver of dummy interfaces would make one by itself, which no
/// container of the host has.
const CMDLINE: &str = "console=ttyS0 loglevel=3 panic=-1 reboot=t noreplace-smp dummy.numdummies=0";

/// Where husk is installed.
#[derive(Debug, Clone)]
pub(crate) struct Install {
    /// The `husk-vmm` program.
    pub(crate) vmm: PathBuf,
    /// The `husk-rootfs` program.
    pub(crate) rootfs: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Install {
    /// Found from the place of this program.
    pub(crate) fn find() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let bin = program.parent().unwrap_or(Path::new("/"));
        let share = bin.parent().unwrap_or(Path::new("/")).join("share/husk");
        Ok(Self {
            vmm: bin.join("husk-vmm"),
            rootfs: bin.join("husk-rootfs"),
            kernel: share.join("vmlinux"),
            initrd: share.join("initrd.img"),
        })
    }
}

/// The machine for a container. `dir` is its sandbox's directory, `sandbox_memory` what all containers of the sandbox will have, if
/// that is known.
pub(crate) fn plan(
    install: &Install,
    spec: &Spec,
    sandbox_memory: Option<u64>,
    shares: Vec<ShareConfig>,
    dir: &SandboxDir,
) -> SandboxConfig {
    let fs = FsConfig {
        tag: SHARES_TAG.into(),
        shares,
        cache: CachePolicy::Auto,
        writeback: false,
    };
    let vsock = VsockConfig {
        cid: CID,
        socket: dir.file(super::SOCKET_FILE),
    };
    SandboxConfig {
        vcpus: 1,
        memory: MemoryConfig {
            size_mib: memory_mib(spec, sandbox_memory),
            shared: false,
        },
        boot: BootConfig {
            kernel: install.kernel.clone(),
            initrd: Some(install.initrd.clone()),
            cmdline: CMDLINE.into(),
        },
        serial: SerialConfig::File {
            path: dir.file("console.log"),
        },
        devices: vec![
            DeviceConfig::Rng {},
            DeviceConfig::Vsock(vsock),
            DeviceConfig::Fs(fs),
        ],
    }
}

/// Memory of the machine.
pub(crate) fn memory_mib(spec: &Spec, sandbox_memory: Option<u64>) -> u32 {
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let limit = memory.and_then(|memory| memory.limit());
    let limit = limit.and_then(|bytes| u64::try_from(bytes).ok());
    let limit = limit.filter(|bytes| *bytes > 0);
    let size = match sandbox_memory.or(limit) {
        Some(bytes) => bytes.div_ceil(1 << 20).saturating_add(GUEST_OVERHEAD),
        None => DEFAULT_MEMORY,
    };
    u32::try_from(size.clamp(MEMORY_BOUNDS.0, MEMORY_BOUNDS.1)).unwrap_or(u32::MAX)
}

/// The highest memory limit, in bytes, that a machine of this size serves.
pub(crate) fn limit_of(size_mib: u32) -> u64 {
    u64::from(size_mib).saturating_sub(GUEST_OVERHEAD) << 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_guest_has_the_containers_limit_and_its_own_needs() {
        for (limit, expected) in [
            (json!(null), 256),
            (json!(-1), 256),
            (json!(0), 256),
            (json!(1), 128),
            (json!(512 << 20), 576),
            (json!((512 << 20) + 1), 577),
            (json!(i64::MAX), 1 << 20),
        ] {
            let spec = json!({"ociVersion": "1.0.2", "linux": {"resources": {"memory": {"limit": limit}}}});
            assert_eq!(
                memory_mib(&serde_json::from_value(spec).unwrap(), None),
                expected,
                "{limit}"
            );
        }
    }

    #[test]
    fn the_memory_of_a_whole_sandbox_counts_more_than_its_first_containers_limit() {
        let spec = json!({"ociVersion": "1.0.2", "linux": {"resources": {"memory": {"limit": 1}}}});
        let spec = serde_json::from_value(spec).unwrap();
        assert_eq!(memory_mib(&spec, Some(512 << 20)), 576);
    }
}
