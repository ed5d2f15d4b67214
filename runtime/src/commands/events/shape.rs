//! The JSON of `husk events`: keys, order and omissions are those of runc's `types.Stats`, for a guest with cgroup version 2.

use std::collections::BTreeMap;

use protocol::rpc::{IoStats, Stats};
use serde::Serialize;
use serde_json::{Value, json};

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Data>,
}

impl<'a> Event<'a> {
    /// A process was killed for want of memory.
    pub(super) fn oom(id: &'a str) -> Self {
        Self {
            kind: "oom",
            id,
            data: None,
        }
    }

    /// What the container uses.
    pub(super) fn stats(id: &'a str, data: &'a Data) -> Self {
        Self {
            kind: "stats",
            id,
            data: Some(data),
        }
    }
}

/// What the container uses.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: Value,
    intel_rdt: Value,
    network_interfaces: Value,
}

#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

/// Nanoseconds.
#[derive(Debug, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

/// cgroup version 2 has none of these figures; runc prints them as zeros.
#[derive(Debug, Default, Serialize)]
struct CpuSet {
    cpu_exclusive: u64,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    raw: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlockIoEntry>,
}

#[derive(Debug, Serialize)]
struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The figures of the agent, in runc's shape.
pub(super) fn stats(stats: &Stats) -> Data {
    let figure = |map: &BTreeMap<String, u64>, key| map.get(key).copied().unwrap_or(0);
    let nanoseconds = |key| figure(&stats.cpu, key).saturating_mul(1000);
    Data {
        cpu: Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: Throttling {
                periods: figure(&stats.cpu, "nr_periods"),
                throttled_periods: figure(&stats.cpu, "nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
        },
        cpuset: CpuSet::default(),
        memory: memory(stats),
        pids: Pids {
            current: stats.pids_current,
            limit: stats.pids_limit.unwrap_or(0),
        },
        blkio: BlockIo {
            io_service_bytes_recursive: block_io(&stats.io, "rbytes", "wbytes"),
            io_serviced_recursive: block_io(&stats.io, "rios", "wios"),
        },
        hugetlb: json!({}),
        intel_rdt: json!({}),
        network_interfaces: Value::Null,
    }
}

fn memory(stats: &Stats) -> Memory {
    Memory {
        cache: stats.memory.get("file").copied().unwrap_or(0),
        usage: MemoryEntry {
            limit: stats.memory_limit.unwrap_or(u64::MAX),
            usage: stats.memory_current,
            ..MemoryEntry::default()
        },
        // The guest has no swap: memory and swap together are memory.
        swap: MemoryEntry {
            limit: stats.memory_limit.unwrap_or(u64::MAX),
            usage: stats.memory_current,
            ..MemoryEntry::default()
        },
        kernel: MemoryEntry::default(),
        kernel_tcp: MemoryEntry::default(),
        raw: stats.memory.clone(),
    }
}

fn block_io(devices: &[IoStats], read: &str, write: &str) -> Vec<BlockIoEntry> {
    let entry = |device: &IoStats, key: &str, op| BlockIoEntry {
        major: device.major,
        minor: device.minor,
        op,
        value: device.counters.get(key).copied().unwrap_or(0),
    };
    let entries = devices
        .iter()
        .flat_map(|device| [entry(device, read, "Read"), entry(device, write, "Write")]);
    entries.collect()
}
