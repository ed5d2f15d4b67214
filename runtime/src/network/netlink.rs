//! rtnetlink(7) requests and dumps, one at a time. The messages are a library's.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Largest part of an answer, in bytes: the kernel sends at most 32 KiB at once.
const BUFFER: usize = 64 << 10;

/// Most messages of one dump: a namespace with more is not one of a container.
const MAX_DUMP: usize = 64 << 10;

/// Speaks to the kernel about the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// For the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self(socket))
    }

    /// Has something done. `flags` are `NLM_F_*` beside those of every request.
    pub(super) fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            let answers = self.receive()?;
            for answer in answers {
                if let NetlinkPayload::Error(error) = answer.payload {
                    return match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    };
                }
            }
        }
    }

    /// Everything of a kind.
    pub(super) fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
            if found.len() > MAX_DUMP {
                return Err(io::Error::other("too many entries"));
            }
        }
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let mut buffer = vec![0; BUFFER];
        let receive = || rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::TRUNC);
        let (_, size) = rustix::io::retry_on_intr(receive)?;
        let mut rest = buffer
            .get(..size)
            .ok_or_else(|| io::Error::other("an answer that is too long"))?;
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
            let message = message.map_err(io::Error::other)?;
            // Each begins at a multiple of four.
            let size = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(size.max(1)..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    #[test]
    fn the_loopback_interface_is_among_the_links() {
        let netlink = Netlink::open().unwrap();
        let links = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let is_loopback = |message: &RouteNetlinkMessage| match message {
            RouteNetlinkMessage::NewLink(link) => link.header.index == 1,
            _ => false,
        };
        assert!(links.unwrap().iter().any(is_loopback));
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let mut link = LinkMessage::default();
        link.header.index = u32::MAX >> 1;
        let outcome = Netlink::open()
            .unwrap()
            .request(RouteNetlinkMessage::DelLink(link), 0);
        let code = outcome.unwrap_err().raw_os_error();
        assert!(matches!(code, Some(libc::ENODEV | libc::EPERM)), "{code:?}");
    }
}
