//! Taps: network interfaces whose other end is a program.

#![expect(unsafe_code, reason = "ioctls of /dev/net/tun")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const TUN: &str = "/dev/net/tun";

/// Longest name of an interface, in bytes.
const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// Makes a tap that stays without a program, in the network namespace of this thread. One of that name must not exist.
pub(super) fn make(name: &str) -> io::Result<()> {
    let tun = File::options().read(true).write(true).open(TUN)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    let request = request(name, flags)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until after the call.
    let outcome =
        unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    checked(outcome)?;
    // SAFETY: TUNSETPERSIST takes a number.
    let outcome = unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETPERSIST, 1) };
    checked(outcome)
}

fn request(name: &str, flags: i32) -> io::Result<libc::ifreq> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    if name.len() > MAX_NAME {
        return Err(invalid());
    }
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let ifru_flags = u16::try_from(flags).map_err(|_| invalid())?.cast_signed();
    Ok(libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags },
    })
}

fn checked(outcome: i32) -> io::Result<()> {
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
