//! Brings the loopback interface up, in whatever network namespace the caller is in.
//!
//! One rtnetlink message (`RTM_NEWLINK`, rtnetlink(7)) and its acknowledgement.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ACK: u16 = 1 | 4;
/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const IFF_UP: u32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`, 16 bytes each.
const MESSAGE_SIZE: usize = 32;

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot bring the loopback interface up")]
pub(crate) struct LoopbackError(#[source] Errno);

/// Sets `IFF_UP` on the loopback interface.
pub(crate) fn loopback_up() -> Result<(), LoopbackError> {
    exchange().map_err(LoopbackError)
}

fn exchange() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    rustix::net::send(&socket, &message(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..length.min(answer.len())])
}

fn message() -> [u8; MESSAGE_SIZE] {
    let mut message = [0; MESSAGE_SIZE];
    // struct nlmsghdr
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_WITH_ACK.to_ne_bytes());
    // struct ifinfomsg: index, flags, and which flags change.
    message[20..24].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    message
}

/// `struct nlmsgerr` after the header: a negative error number, 0 for success.
fn acknowledged(answer: &[u8]) -> Result<(), Errno> {
    let kind = answer
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes);
    let code = answer
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw_os_error(code.wrapping_neg())),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, code: i32) -> Vec<u8> {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&kind.to_ne_bytes());
        answer[16..20].copy_from_slice(&code.to_ne_bytes());
        answer
    }

    #[test]
    fn the_kernels_answer_is_told_apart() {
        assert_eq!(acknowledged(&answer(NLMSG_ERROR, 0)), Ok(()));
        assert_eq!(acknowledged(&answer(NLMSG_ERROR, -1)), Err(Errno::PERM));
        assert_eq!(acknowledged(&answer(RTM_NEWLINK, 0)), Err(Errno::PROTO));
        assert_eq!(acknowledged(&[]), Err(Errno::PROTO));
    }
}
