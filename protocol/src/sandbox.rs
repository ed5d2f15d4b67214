//! The sandbox config: what `husk-vmm --config FILE` reads. One JSON object describes one virtual machine.
//!
//! Unknown and duplicate keys are refused. Defaults stand here and nowhere else. The published JSON Schema is made
//! from these types.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest config file, in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;

/// One virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// Number of virtual processors, 1 to 32.
    #[serde(default = "default_vcpus")]
    pub vcpus: u8,
    /// Guest memory.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// What the machine boots.
    pub boot: BootConfig,
    /// The first serial port (COM1).
    #[serde(default)]
    pub serial: SerialConfig,
    /// Devices, in the order in which they take PCI slots.
    #[serde(default)]
    pub devices: Vec<DeviceConfig>,
}

fn default_vcpus() -> u8 {
    1
}

/// Guest memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Size in MiB, 32 to 1,048,576.
    pub size_mib: u32,
    /// Back it by a memfd that other processes can share (vhost-user), not by private memory.
    pub shared: bool,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            size_mib: 256,
            shared: false,
        }
    }
}

/// Kernel, initrd and command line.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// An ELF `vmlinux` or a `bzImage`.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line, at most 2,047 bytes. Nothing is added to it.
    #[serde(default)]
    pub cmdline: String,
}

/// Where the first serial port's output goes, and its input comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum SerialConfig {
    /// Standard input and output of the VMM.
    Stdio,
    /// Output is appended to a file, which is made if missing.
    File {
        /// The file.
        path: PathBuf,
    },
    /// Output is dropped.
    #[default]
    None,
}

/// One device.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceConfig {
    /// virtio-rng: entropy (virtio 1.2, 5.4).
    Rng {},
    /// virtio-console (virtio 1.2, 5.3).
    Console(ConsoleConfig),
    /// virtio-blk (virtio 1.2, 5.2).
    Blk(BlkConfig),
    /// virtio-vsock (virtio 1.2, 5.10).
    Vsock(VsockConfig),
    /// virtio-fs (virtio 1.2, 5.11).
    Fs(FsConfig),
    /// virtio-net (virtio 1.2, 5.1).
    Net(NetConfig),
}

/// A virtio console with one port.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Where its bytes go. Only one of the serial port and the consoles can use `stdio`.
    pub output: SerialConfig,
}

/// A virtio disk.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlkConfig {
    /// A raw image or a block device. Its format is never guessed.
    pub path: PathBuf,
    /// The guest cannot write; the file is opened read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Bypass the host's page cache (`O_DIRECT`).
    #[serde(default)]
    pub direct: bool,
    /// What the guest reads as serial number, at most 20 bytes.
    #[serde(default)]
    pub serial: String,
}

/// A virtio socket device, served by the VMM itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's context id, 3 or more. It is local to this machine: every sandbox may use the same.
    #[serde(default = "default_cid")]
    pub cid: u32,
    /// Unix socket to make. A client sends `CONNECT <port>\n`, reads `OK <port>\n`, and is connected to the guest's port.
    /// A guest that connects to host port N is connected to the unix socket `<socket>_<N>`.
    pub socket: PathBuf,
}

fn default_cid() -> u32 {
    3
}

/// A virtio file system, served by the VMM itself. Shares can be attached and detached while the machine runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FsConfig {
    /// What the guest mounts it by, 1 to 36 bytes.
    pub tag: String,
    /// Shares present from the start.
    #[serde(default)]
    pub shares: Vec<ShareConfig>,
    /// What the guest may cache.
    #[serde(default)]
    pub cache: CachePolicy,
    /// Let the guest gather writes in its page cache. Only for shares that nobody else writes.
    #[serde(default)]
    pub writeback: bool,
}

/// One directory or file of the host, which the guest sees as `/<name>` of the file system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// One path component, at most 255 bytes.
    pub name: String,
    /// The host's directory or file.
    pub source: PathBuf,
    /// Enforced by the host's kernel.
    #[serde(default)]
    pub read_only: bool,
    /// With what the host has mounted below the source, but for procfs, sysfs and the like.
    #[serde(default)]
    pub recursive: bool,
}

/// What the guest may cache of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    /// Nothing: every access asks the host.
    Never,
    /// Names and attributes for a second, data until the file is opened again.
    #[default]
    Auto,
    /// Everything, for ever. Only for shares that the host does not change.
    Always,
}

/// A virtio network interface, connected to a tap of the host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// The tap's name, at most 15 bytes. It must exist, be persistent if it is to outlive the machine, and have nobody else attached.
    pub tap: String,
    /// The network namespace in which the tap lives, by a path such as `/run/netns/blue`. Default: the VMM's own.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The address the guest is told, as in `02:00:00:00:00:01`. Default: the guest makes one up.
    #[serde(default)]
    pub mac: Option<String>,
    /// The largest packet the guest is told to send, 68 to 65,521 bytes. Default: the tap's.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Pairs of queues, 1 to 8. More than one needs a tap made with `multi_queue`.
    #[serde(default = "default_queue_pairs")]
    pub queue_pairs: u16,
}

fn default_queue_pairs() -> u16 {
    1
}
