//! A tap of the host: an interface whose frames go through file descriptors, one for each queue.

#![expect(
    unsafe_code,
    reason = "taps are made and set up by ioctls that no crate wraps"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
};

use super::features::{GUEST_OFFLOADS, USO, bit};
use super::header::HEADER_BYTES;
use super::port::Port;

/// Longest name of an interface: `IFNAMSIZ` less the NUL.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// Why a tap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// There is no interface of the name.
    #[error("there is no interface {0}")]
    Missing(String),
    /// It is an interface of another kind, or in use by somebody else, or has one queue only.
    #[error(
        "cannot attach to {name} with {queues} queues: not a tap, not made with multi_queue, or in use"
    )]
    Attach {
        /// The name.
        name: String,
        /// How many queues were wanted.
        queues: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not do what the device needs.
    #[error("cannot {0}")]
    SetUp(&'static str, #[source] io::Error),
}

/// One queue of a tap.
pub struct Tap {
    file: File,
    attached: bool,
    offloads: u64,
}

impl Tap {
    /// Attaches to `queues` queues of the tap `name` in the network namespace of the calling thread.
    ///
    /// A tap that does not exist is not made: nobody would have connected it to anything.
    pub fn attach(name: &str, queues: u16) -> Result<Vec<Self>, TapError> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let socket = socket.map_err(failed("ask for interfaces"))?;
        rustix::net::netdevice::name_to_index(&socket, name)
            .map_err(|_| TapError::Missing(name.to_owned()))?;
        let open = |_| Self::attach_one(name, queues);
        (0..queues).map(open).collect()
    }

    fn attach_one(name: &str, queues: u16) -> Result<Self, TapError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open("/dev/net/tun", flags, Mode::empty());
        let file = File::from(file.map_err(failed("open /dev/net/tun"))?);
        let always = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let several = always | libc::IFF_MULTI_QUEUE;
        let attached = match queues {
            // A tap made for several queues serves one as well, but wants to be asked for it so.
            1 => match set_interface(&file, name, always) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    set_interface(&file, name, several)
                }
                outcome => outcome,
            },
            _ => set_interface(&file, name, several),
        };
        attached.map_err(|source| TapError::Attach {
            name: name.to_owned(),
            queues,
            source,
        })?;
        set_header_size(&file).map_err(TapError::header)?;
        let mut tap = Self {
            file,
            attached: true,
            offloads: GUEST_OFFLOADS,
        };
        if tap.set_offloads(GUEST_OFFLOADS).is_err() {
            tap.offloads = GUEST_OFFLOADS & !USO;
        }
        tap.set_offloads(0)
            .map_err(|error| TapError::SetUp("set a tap's offloads", error))?;
        Ok(tap)
    }
}

impl TapError {
    fn header(source: io::Error) -> Self {
        Self::SetUp("set the size of a tap's header", source)
    }
}

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> TapError {
    move |error| TapError::SetUp(what, error.into())
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Port for Tap {
    fn offloads(&self) -> u64 {
        self.offloads
    }

    fn set_offloads(&self, offloads: u64) -> io::Result<()> {
        let flags = [
            (VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM),
            (VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
            (VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
            (VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN),
            (VIRTIO_NET_F_GUEST_USO4, libc::TUN_F_USO4),
            (VIRTIO_NET_F_GUEST_USO6, libc::TUN_F_USO6),
        ];
        let chosen = flags
            .iter()
            .filter(|(feature, _)| offloads & bit(*feature) != 0);
        let flags = chosen.fold(0, |all, (_, flag)| all | flag);
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        let outcome = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(flags),
            )
        };
        checked(outcome)
    }

    fn set_attached(&mut self, attached: bool) -> io::Result<()> {
        if attached == self.attached {
            return Ok(());
        }
        let flag = match attached {
            true => libc::IFF_ATTACH_QUEUE,
            false => libc::IFF_DETACH_QUEUE,
        };
        let request = request("", flag);
        // SAFETY: TUNSETQUEUE reads an ifreq.
        let outcome =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) };
        checked(outcome)?;
        self.attached = attached;
        Ok(())
    }
}

/// Attaches `file` to the interface `name`.
fn set_interface(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = request(name, flags);
    // SAFETY: TUNSETIFF reads and writes an ifreq.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    checked(outcome)
}

fn set_header_size(file: &File) -> io::Result<()> {
    let bytes = libc::c_int::try_from(HEADER_BYTES).unwrap_or(0);
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) };
    checked(outcome)
}

/// The largest packet of the interface `name` in the network namespace of the calling thread.
pub fn mtu(name: &str) -> io::Result<u16> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let mut request = request(name, 0);
    // SAFETY: SIOCGIFMTU reads and writes an ifreq.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    checked(outcome)?;
    // SAFETY: SIOCGIFMTU has set the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u16::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn request(name: &str, flags: libc::c_int) -> libc::ifreq {
    // SAFETY: an ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays the NUL.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(MAX_NAME)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
    request
}

fn checked(outcome: libc::c_int) -> io::Result<()> {
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
