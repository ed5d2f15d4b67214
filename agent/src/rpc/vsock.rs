//! vsock sockets (vsock(7)), which neither the standard library nor rustix has addresses for.

#![expect(
    unsafe_code,
    reason = "rustix takes foreign socket addresses through an unsafe trait"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::OwnedFd;
use std::ptr::from_ref;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// `VMADDR_CID_ANY`: this machine, whatever its context id.
const CID_ANY: u32 = u32::MAX;

/// `VMADDR_CID_HOST`.
const CID_HOST: u32 = 2;

/// Connections the kernel holds before they are accepted.
const BACKLOG: i32 = 128;

/// Size of [`Address`].
const ADDRESS_SIZE: SocketAddrLen = 16;
const _: () = assert!(size_of::<Address>() == ADDRESS_SIZE as usize);

/// `struct sockaddr_vm`.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

impl Address {
    fn new(cid: u32, port: u32) -> Self {
        Self {
            family: AddressFamily::VSOCK.as_raw(),
            reserved: 0,
            port,
            cid,
            flags: 0,
            zero: [0; 3],
        }
    }
}

// SAFETY: `Address` has the layout of `struct sockaddr_vm`, all of its bytes are initialised (it has no padding), and
// the pointer handed out is to `self`, with its size.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(from_ref(self).cast(), ADDRESS_SIZE)
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Listens on a port of this machine.
pub(crate) fn listen(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &Address::new(CID_ANY, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to a port of the host.
pub(crate) fn connect_to_host(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &Address::new(CID_HOST, port))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_kernels() {
        // include/uapi/linux/vm_sockets.h
        assert_eq!(std::mem::offset_of!(Address, port), 4);
        assert_eq!(std::mem::offset_of!(Address, cid), 8);
        assert_eq!(AddressFamily::VSOCK.as_raw(), 40);
    }
}
