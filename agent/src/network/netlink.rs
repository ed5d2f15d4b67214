//! rtnetlink(7) as far as the agent needs it: one request, one acknowledgement.
//!
//! By hand: requests of four kinds are written and nothing but error numbers is read, for which a library would make the
//! agent, which lies in every guest's memory, larger by more than this file.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ACK: u16 = 1 | 4;
/// `NLM_F_REPLACE | NLM_F_CREATE`.
const CREATE_OR_REPLACE: u16 = 0x100 | 0x400;
/// `NLM_F_CREATE | NLM_F_APPEND`.
const CREATE_BESIDE: u16 = 0x400 | 0x800;
/// `struct nlmsghdr`.
const HEADER_SIZE: usize = 16;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;

/// Speaks to the kernel about the network namespace it was opened in.
pub(super) struct Netlink(OwnedFd);

/// One request: a header, a fixed structure of its kind, attributes.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Changes what exists. `body` is the structure that the kind begins with.
    pub(super) fn change(kind: u16, body: &[u8]) -> Self {
        Self::new(kind, REQUEST_WITH_ACK, body)
    }

    /// Makes something, or replaces what is there.
    pub(super) fn create(kind: u16, body: &[u8]) -> Self {
        Self::new(kind, REQUEST_WITH_ACK | CREATE_OR_REPLACE, body)
    }

    /// Makes something beside what is there.
    pub(super) fn create_beside(kind: u16, body: &[u8]) -> Self {
        Self::new(kind, REQUEST_WITH_ACK | CREATE_BESIDE, body)
    }

    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        let mut message = Self(bytes);
        message.append(body);
        message
    }

    /// The same with one more attribute. Nothing here is as long as the 64 KiB that one can have.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let size = u16::try_from(value.len() + ALIGNMENT).unwrap_or(u16::MAX);
        self.append(&size.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.append(value);
        self
    }

    /// The same with one more attribute if there is a value for it.
    pub(super) fn with_optional(self, kind: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.with(kind, value),
            None => self,
        }
    }

    /// At the next multiple of the alignment.
    fn append(&mut self, bytes: &[u8]) {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self.0.extend_from_slice(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        let size = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&size.to_ne_bytes());
        self.0
    }
}

impl Netlink {
    /// For the network namespace of the caller.
    pub(super) fn open() -> Result<Self, Errno> {
        // NETLINK_ROUTE is protocol 0.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// Sends a request and waits for its outcome.
    pub(super) fn request(&self, message: Message) -> Result<(), Errno> {
        rustix::net::send(&self.0, &message.finish(), SendFlags::empty())?;
        // An error repeats the request, which is cut off here.
        let mut answer = [0; 256];
        let (_, length) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
        acknowledged(&answer[..length.min(answer.len())])
    }
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
        assert_eq!(acknowledged(&answer(16, 0)), Err(Errno::PROTO));
        assert_eq!(acknowledged(&[]), Err(Errno::PROTO));
    }

    #[test]
    fn attributes_are_aligned_and_counted() {
        let message = Message::change(16, &[7; 6])
            .with(3, b"eth0\0")
            .with(4, &[1]);
        let bytes = message.finish();
        assert_eq!(bytes[0..4], 41_u32.to_ne_bytes());
        assert_eq!(bytes[16..24], [7, 7, 7, 7, 7, 7, 0, 0]);
        assert_eq!(bytes[24..26], 9_u16.to_ne_bytes());
        assert_eq!(bytes[28..36], *b"eth0\0\0\0\0");
        assert_eq!(bytes[36..38], 5_u16.to_ne_bytes());
        assert_eq!(bytes.len(), 41);
    }

    #[test]
    fn the_kernel_understands_a_request() {
        // No such interface, whoever asks: with privileges ENODEV, without EPERM.
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&0x7fff_fff0_u32.to_ne_bytes());
        let outcome = Netlink::open().unwrap().request(Message::change(16, &body));
        assert!(
            matches!(outcome, Err(Errno::NODEV | Errno::PERM)),
            "{outcome:?}"
        );
    }
}
