//! `linux.resources` as limits of the host's cgroup. The guest enforces the container's own; here the machine that the
//! container is in is kept from taking more of the host than the container is entitled to.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

/// Memory of machine and monitors beside the guest's, in bytes.
const HOST_MEMORY: i64 = 128 << 20;

/// For each byte of guest memory, how many the host may have to keep beside it: a file that the guest remembers takes
/// 1 KiB of its memory, and up to 3 KiB of the host's, which are pinned (an open file, and the inodes and names of two
/// layers of overlayfs). A container that walks a large tree must not lose its machine to the host's OOM killer.
const HOST_SHARE: i64 = 3;

/// Swap of a container that may have none: a page, since the library takes 0 for a limit that is not set.
const NO_SWAP: i64 = 4096;

/// Threads and processes beside those that the limit grants: of the machine, of the monitors, and one monitor for each
/// process that is run in the container.
const HOST_TASKS: i64 = 128;

/// Limits of a cgroup.
#[derive(Debug)]
pub(crate) struct Limits {
    /// From the start.
    pub(super) initial: LinuxResources,
    /// Processor time, once the machine is up: booting is not the container's doing.
    pub(super) throttle: Option<LinuxResources>,
}

impl Limits {
    /// For a container whose machine has `guest_mib` of memory.
    pub(super) fn of(resources: Option<&LinuxResources>, guest_mib: u32) -> Self {
        let mut initial = nothing();
        let Some(resources) = resources else {
            return Self {
                initial,
                throttle: None,
            };
        };
        let memory = resources.memory().as_ref();
        let memory = memory.map(|memory| host_memory(memory, guest_mib));
        initial.set_memory(memory.filter(|memory| *memory != LinuxMemory::default()));
        initial.set_pids(resources.pids().as_ref().and_then(host_pids));
        // The numbers of its devices are the host's.
        initial.set_block_io(resources.block_io().clone());
        let cpu = resources.cpu().as_ref();
        initial.set_cpu(cpu.map(placement).filter(|cpu| *cpu != LinuxCpu::default()));
        Self {
            initial,
            throttle: cpu.and_then(throttle),
        }
    }
}

impl Limits {
    /// Nothing is limited.
    pub(super) fn are_none(&self) -> bool {
        self.throttle.is_none() && self.initial == nothing()
    }
}

/// What has no effect anywhere, a line each.
pub(super) fn left_out(resources: &LinuxResources) -> Vec<String> {
    let rdma = resources.rdma().as_ref();
    let network = resources.network().as_ref();
    [
        ("rdma", rdma.is_some_and(|map| !map.is_empty())),
        (
            "network",
            network.is_some_and(|net| net.class_id().is_some()),
        ),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(field, _)| format!("linux.resources.{field}: has no effect on a virtual machine"))
    .collect()
}

/// The library's defaults name devices.
fn nothing() -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources
}

fn placement(cpu: &LinuxCpu) -> LinuxCpu {
    let mut placement = LinuxCpu::default();
    placement.set_shares(cpu.shares());
    placement.set_idle(cpu.idle());
    placement.set_cpus(cpu.cpus().clone().filter(|list| !list.is_empty()));
    placement.set_mems(cpu.mems().clone().filter(|list| !list.is_empty()));
    placement
}

fn throttle(cpu: &LinuxCpu) -> Option<LinuxResources> {
    let mut throttle = LinuxCpu::default();
    throttle.set_quota(cpu.quota().filter(|quota| *quota != 0));
    throttle.set_period(cpu.period().filter(|period| *period != 0));
    throttle.set_burst(cpu.burst());
    if throttle == LinuxCpu::default() {
        return None;
    }
    let mut resources = nothing();
    resources.set_cpu(Some(throttle));
    Some(resources)
}

fn host_memory(memory: &LinuxMemory, guest_mib: u32) -> LinuxMemory {
    let mut host = LinuxMemory::default();
    if let Some(limit) = memory.limit().filter(|limit| *limit > 0) {
        let guest = i64::from(guest_mib) << 20;
        let allowed = guest * (1 + HOST_SHARE) + HOST_MEMORY;
        host.set_limit(Some(allowed));
        host.set_swap(memory.swap().map(|swap| match swap {
            // The sum of memory and swap: a version 1 notion.
            0.. => allowed.saturating_add(swap.saturating_sub(limit).max(NO_SWAP)),
            _ => -1,
        }));
    }
    host.set_reservation(memory.reservation().filter(|bytes| *bytes > 0));
    host
}

/// None sets none: 0 is unset, as in runc.
fn host_pids(pids: &LinuxPids) -> Option<LinuxPids> {
    let mut host = LinuxPids::default();
    host.set_limit(match pids.limit() {
        0 => return None,
        limit @ 1.. => limit.saturating_add(HOST_TASKS),
        _ => -1,
    });
    Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn limits(resources: Value, guest_mib: u32) -> (LinuxResources, Option<LinuxResources>) {
        let resources = serde_json::from_value(resources).unwrap();
        let Limits { initial, throttle } = Limits::of(Some(&resources), guest_mib);
        (initial, throttle)
    }

    #[test]
    fn memory_has_room_for_what_the_machine_needs() {
        let (host, _) = limits(
            json!({"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 1 << 20}}),
            128,
        );
        let memory = host.memory().as_ref().unwrap();
        assert_eq!(memory.limit(), Some((128 * 4 + 128) << 20));
        assert_eq!(memory.swap(), Some((128 * 4 + 128 + 32) << 20));
        assert_eq!(memory.reservation(), Some(1 << 20));
        let (host, _) = limits(
            json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
            128,
        );
        let memory = host.memory().as_ref().unwrap();
        assert_eq!(
            memory
                .swap()
                .zip(memory.limit())
                .map(|(all, ram)| all - ram),
            Some(NO_SWAP)
        );
        for unlimited in [json!(null), json!(0), json!(-1)] {
            let (host, _) = limits(json!({"memory": {"limit": unlimited, "swap": -1}}), 256);
            assert_eq!(*host.memory(), None);
        }
    }

    #[test]
    fn a_limit_of_processes_leaves_the_machine_its_threads() {
        let limit = |limit: i64| {
            let (host, _) = limits(json!({"pids": {"limit": limit}}), 256);
            host.pids().as_ref().map(LinuxPids::limit)
        };
        assert_eq!(limit(1), Some(1 + HOST_TASKS));
        assert_eq!(limit(0), None);
        assert_eq!(limit(-1), Some(-1));
        assert_eq!(limit(i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn processor_time_is_limited_apart_from_the_rest() {
        let (host, throttle) = limits(
            json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1", "mems": ""}}),
            256,
        );
        let placed = host.cpu().as_ref().unwrap();
        assert_eq!((placed.shares(), placed.quota()), (Some(512), None));
        assert_eq!(placed.cpus().as_deref(), Some("0-1"));
        assert_eq!(*placed.mems(), None);
        let throttle = throttle.unwrap();
        let cpu = throttle.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), Some(100_000)));
        let unset = json!({"cpu": {"shares": 2, "quota": 0, "period": 0}});
        assert!(limits(unset, 256).1.is_none());
    }

    #[test]
    fn no_resources_are_no_limits() {
        let Limits { initial, throttle } = Limits::of(None, 256);
        assert_eq!(initial, nothing());
        assert!(throttle.is_none());
        assert!(Limits::of(None, 256).are_none());
    }

    #[test]
    fn what_is_left_out_is_named() {
        let resources = json!({
            "rdma": {"mlx5_0": {"hcaHandles": 1}},
            "network": {"priorities": []},
        });
        let warnings = left_out(&serde_json::from_value(resources).unwrap());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("rdma"));
    }
}
