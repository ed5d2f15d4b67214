//! System calls on unix sockets, none of which blocks: to and from guest memory where it lies.

#![expect(
    unsafe_code,
    reason = "guest memory changes under our feet, so it may go to the kernel by pointer only, not as a Rust slice"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use vm_memory::VolatileSlice;
use vm_memory::volatile_memory::PtrGuardMut;

/// Connects to a listener. One whose backlog is full refuses.
pub(super) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let address = SocketAddrUnix::new(path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &address)?;
    Ok(socket)
}

/// The next client of a listener.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    retry(|| net::accept_with(listener, flags))
}

/// Copies what the socket has to `data` and leaves it there.
pub(super) fn peek(socket: BorrowedFd<'_>, data: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    retry(|| net::recv(socket, &mut *data, flags)).map(|(_, count)| count)
}

/// Takes what the socket has.
pub(super) fn take(socket: BorrowedFd<'_>, data: &mut [u8]) -> io::Result<usize> {
    retry(|| net::recv(socket, &mut *data, RecvFlags::DONTWAIT)).map(|(_, count)| count)
}

/// Ends one or both directions.
pub(super) fn shutdown(socket: BorrowedFd<'_>, how: net::Shutdown) -> io::Result<()> {
    Ok(net::shutdown(socket, how)?)
}

/// Sends from `pieces`, as much as the socket takes.
pub(super) fn send(socket: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let message = Message::new(pieces);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    message.transfer(|header| {
        // SAFETY: `header` describes buffers that `message` keeps mapped; the kernel only reads them.
        unsafe { libc::sendmsg(socket.as_raw_fd(), header, flags) }
    })
}

/// Receives into `pieces`. 0 is the end of the stream.
pub(super) fn receive(socket: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let message = Message::new(pieces);
    message.transfer(|header| {
        // SAFETY: `header` describes buffers that `message` keeps mapped and that nobody holds a Rust reference to.
        unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_DONTWAIT) }
    })
}

/// Guest memory as the kernel wants it named.
struct Message {
    vectors: Vec<libc::iovec>,
    /// Keep the memory of `vectors` mapped.
    _guards: Vec<PtrGuardMut>,
}

impl Message {
    fn new(pieces: &[VolatileSlice<'_>]) -> Self {
        let guards: Vec<_> = pieces.iter().map(VolatileSlice::ptr_guard_mut).collect();
        let vectors = guards.iter().map(|guard| libc::iovec {
            iov_base: guard.as_ptr().cast(),
            iov_len: guard.len(),
        });
        Self {
            vectors: vectors.collect(),
            _guards: guards,
        }
    }

    fn transfer(mut self, call: impl Fn(*mut libc::msghdr) -> isize) -> io::Result<usize> {
        // SAFETY: all zeroes is a message header without address, control data or buffers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        loop {
            let error = match usize::try_from(call(&raw mut header)) {
                Ok(count) => return Ok(count),
                Err(_) => io::Error::last_os_error(),
            };
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}
