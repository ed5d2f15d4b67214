//! A machine as the builder wants it: every number is within its limits, every file is open.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use devices::virtio::blk::Backend;

use super::{FsSpec, NetSpec, SocketFile};
use crate::arch::KernelImage;
use crate::shares::Source;

/// A checked machine.
pub(crate) struct VmSpec {
    /// Number of processors.
    pub(crate) vcpus: u8,
    /// Bytes of RAM, a multiple of 1 MiB.
    pub(crate) ram: u64,
    /// Back RAM by a memfd.
    pub(crate) shared_memory: bool,
    /// The kernel's file.
    pub(crate) kernel: File,
    /// What its headers say.
    pub(crate) image: KernelImage,
    /// The initrd.
    pub(crate) initrd: Option<InitrdSpec>,
    /// The kernel's command line.
    pub(crate) cmdline: CString,
    /// The serial port.
    pub(crate) serial: Output,
    /// Devices, in the order of their slots.
    pub(crate) devices: Vec<DeviceSpec>,
}

/// An initrd that fits into the machine.
pub(crate) struct InitrdSpec {
    /// Its file.
    pub(crate) file: File,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Guest-physical address, at a page.
    pub(crate) address: u64,
}

/// Where a character device's bytes go.
pub(crate) enum Output {
    /// Standard output; input comes from standard input.
    Stdio,
    /// To this file.
    File(File),
    /// Nowhere.
    None,
}

/// A checked device.
pub(crate) enum DeviceSpec {
    /// Entropy.
    Rng,
    /// A console.
    Console(ConsoleSpec),
    /// A disk.
    Blk(BlkSpec),
    /// A socket device.
    Vsock(VsockSpec),
    /// A file system.
    Fs(FsSpec),
    /// A network interface.
    Net(NetSpec),
}

/// A console's two directions.
pub(crate) struct ConsoleSpec {
    /// What the guest writes goes here.
    pub(crate) output: OwnedFd,
    /// What the guest reads comes from here.
    pub(crate) input: Option<OwnedFd>,
}

/// A disk whose file is open.
pub(crate) struct BlkSpec {
    /// The file.
    pub(crate) backend: Backend,
    /// Serial number.
    pub(crate) serial: String,
}

/// A socket device whose unix socket exists.
pub(crate) struct VsockSpec {
    /// The guest's context id.
    pub(crate) cid: u32,
    /// Accepts the host's clients.
    pub(crate) listener: UnixListener,
    /// The name of its socket.
    pub(crate) socket: SocketFile,
    /// The directory of its socket.
    pub(crate) directory: Source,
    /// Path of the sockets for the guest's connections, less `_<port>`, as seen after [`shares::enter`].
    ///
    /// [`shares::enter`]: crate::shares::enter
    pub(crate) connect_base: PathBuf,
}
