//! The tap beside an interface, and the redirection of everything that arrives at one of the two to the other.
//!
//! The interface keeps its name, its addresses and its place in the host's network; its packets no longer reach the
//! network namespace it is in.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterMatchAllOption, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::netlink::Netlink;
use super::tap;

/// Where a filter of the ingress queueing discipline hangs.
const INGRESS_ROOT: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

/// Priority and protocol (`ETH_P_ALL`, in network order) of the one filter.
const FILTER_INFO: u32 = 1 << 16 | 0x0003_u16.to_be() as u32;

/// An interface of a network namespace and the tap that husk puts beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// The interface.
    pub(super) index: u32,
    /// Its name, for messages.
    pub(super) name: String,
    /// The tap.
    pub(super) tap: String,
}

impl Link {
    /// The tap's name follows from the interface: a namespace serves one sandbox.
    pub(super) fn new(index: u32, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            tap: format!("husk{index}"),
        }
    }

    /// Makes the tap.
    pub(super) fn make_tap(&self, netlink: &Netlink, mtu: u32) -> Result<(), NetworkError> {
        tap::make(&self.tap).map_err(self.failed("make a tap"))?;
        let tap = index_of(&self.tap).map_err(self.failed("find the tap"))?;
        let outcome = netlink.request(RouteNetlinkMessage::SetLink(set_up(tap, mtu)), 0);
        outcome.map_err(self.failed("bring the tap up"))
    }

    /// Redirects both ways. The kernel complains of each packet for a tap that nobody has opened yet.
    pub(super) fn connect(&self, netlink: &Netlink) -> Result<(), NetworkError> {
        let tap = index_of(&self.tap).map_err(self.failed("find the tap"))?;
        for (from, to) in [(self.index, tap), (tap, self.index)] {
            redirect(netlink, from, to).map_err(self.failed("redirect packets"))?;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
        let name = self.name.clone();
        move |source| NetworkError::Connect {
            action,
            name,
            source,
        }
    }

    fn remove(&self, netlink: &Netlink) -> io::Result<()> {
        // First: the kernel complains of packets for a tap that is down.
        let request = RouteNetlinkMessage::DelQueueDiscipline(discipline(self.index));
        match netlink.request(request, 0) {
            // Not made yet, or the interface has gone.
            Err(error) if is_gone(&error) => {}
            outcome => outcome?,
        }
        let Ok(tap) = index_of(&self.tap) else {
            return Ok(());
        };
        // It takes its queueing discipline along.
        let mut message = LinkMessage::default();
        message.header.index = tap;
        netlink.request(RouteNetlinkMessage::DelLink(message), 0)
    }
}

/// Removes what belongs to `links` in the network namespace of this thread, however much of it there is.
pub(super) fn remove(links: &[Link]) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let mut outcome = Ok(());
    for link in links {
        // One that cannot be removed does not keep the others.
        let removed = link.remove(&netlink);
        outcome = outcome.and(removed);
    }
    outcome
}

fn is_gone(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

fn index_of(name: &str) -> io::Result<u32> {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(name_to_index(socket.as_fd(), name)?)
}

/// Up, and silent: the tap is not to speak to the guest by itself.
fn set_up(tap: u32, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = tap;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let silent = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    message.attributes = vec![
        LinkAttribute::Mtu(mtu),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(silent)]),
    ];
    message
}

fn redirect(netlink: &Netlink, from: u32, to: u32) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let discipline = RouteNetlinkMessage::NewQueueDiscipline(discipline(from));
    netlink.request(discipline, flags)?;
    netlink.request(
        RouteNetlinkMessage::NewTrafficFilter(filter(from, to)),
        flags,
    )
}

/// What sees packets as they arrive.
fn discipline(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.handle = INGRESS_ROOT;
    message.header.parent = TcHandle::INGRESS;
    message.attributes = vec![TcAttribute::Kind("ingress".to_owned())];
    message
}

/// Every packet leaves through the other interface.
fn filter(from: u32, to: u32) -> TcMessage {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    let mut message = TcMessage::with_index(from.cast_signed());
    message.header.parent = INGRESS_ROOT;
    message.header.info = FILTER_INFO;
    message.attributes = vec![
        TcAttribute::Kind("matchall".to_owned()),
        TcAttribute::Options(vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(
            vec![action],
        ))]),
    ];
    message
}
