//! What a network namespace holds that the guest is to take over, as the guest will be told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use protocol::network::{Address, Interface, MacAddress, Neighbour, Network, Route};

use super::NetworkError;
use super::netlink::Netlink;

/// Most interfaces of a sandbox: each is a device of its machine.
const MAX_INTERFACES: usize = 16;

/// What an interface of a machine can have, in bytes (virtio 1.2, 5.1.4).
const MIN_MTU: u32 = 68;
/// The most that a tap can have.
const MAX_MTU: u32 = 65_521;

/// Most addresses, routes or neighbours of a sandbox.
const MAX_ENTRIES: usize = 4096;

/// A network namespace, looked at.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What the guest gets.
    pub(super) network: Network,
    /// The interface on the host's side of each of the guest's.
    pub(super) indexes: Vec<u32>,
    /// What the guest does not get, a line each.
    pub(super) left_out: Vec<String>,
}

/// Looks at what `netlink` speaks about.
pub(super) fn survey(netlink: &Netlink) -> Result<Survey, NetworkError> {
    let failed = |what| move |source| NetworkError::Survey { what, source };
    let mut survey = Survey::default();
    let get = RouteNetlinkMessage::GetLink(LinkMessage::default());
    for message in netlink.dump(get).map_err(failed("interfaces"))? {
        if let RouteNetlinkMessage::NewLink(link) = message {
            survey.add_link(&link)?;
        }
    }
    if survey.indexes.is_empty() {
        return Ok(survey);
    }
    refuse_redirected(netlink, &survey)?;
    let get = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in netlink.dump(get).map_err(failed("addresses"))? {
        if let RouteNetlinkMessage::NewAddress(address) = message {
            survey.add_address(&address);
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for route in routes(netlink, family).map_err(failed("routes"))? {
            survey.add_route(&route);
        }
    }
    let get = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    for message in netlink.dump(get).map_err(failed("neighbours"))? {
        if let RouteNetlinkMessage::NewNeighbour(neighbour) = message {
            survey.add_neighbour(&neighbour);
        }
    }
    survey.finish()
}

/// A queueing discipline of husk's own on top of an engine's would take its packets.
fn refuse_redirected(netlink: &Netlink, survey: &Survey) -> Result<(), NetworkError> {
    let get = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let what = "queueing disciplines";
    let found = netlink.dump(get);
    for message in found.map_err(|source| NetworkError::Survey { what, source })? {
        let RouteNetlinkMessage::NewQueueDiscipline(discipline) = message else {
            continue;
        };
        let at_ingress = discipline.header.parent == TcHandle::INGRESS;
        let index = discipline.header.index.cast_unsigned();
        let place = survey.indexes.iter().position(|one| *one == index);
        if let (true, Some(place)) = (at_ingress, place) {
            let name = survey.network.interfaces[place].name.clone();
            return Err(NetworkError::Redirected { name });
        }
    }
    Ok(())
}

/// A kernel without IPv6 has no routes of it.
fn routes(netlink: &Netlink, family: AddressFamily) -> io::Result<Vec<RouteMessage>> {
    let mut get = RouteMessage::default();
    get.header.address_family = family;
    let messages = match netlink.dump(RouteNetlinkMessage::GetRoute(get)) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        outcome => outcome?,
    };
    let route = |message| match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(route).collect())
}

impl Survey {
    /// Interfaces that are down carry nothing, and kernels make some by themselves.
    fn add_link(&mut self, link: &LinkMessage) -> Result<(), NetworkError> {
        let flags = link.header.flags;
        if flags.contains(LinkFlags::Loopback) || !flags.contains(LinkFlags::Up) {
            return Ok(());
        }
        let (mut name, mut mac, mut mtu, mut ipv6) = (String::new(), None, 0, false);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name.clone_from(value),
                LinkAttribute::Address(value) => mac = value.as_slice().try_into().ok(),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::AfSpecUnspec(families) => ipv6 = has_ipv6(families),
                _ => {}
            }
        }
        // A machine's device is told a number of 16 bits.
        let is_usable = |mtu: &u32| (MIN_MTU..=MAX_MTU).contains(mtu);
        if !is_usable(&mtu) {
            return Err(NetworkError::Mtu { name, mtu });
        }
        let mac = match mac.map(MacAddress) {
            Some(mac) if link.header.link_layer_type == LinkLayerType::Ether => mac,
            _ => {
                let kind = link.header.link_layer_type;
                self.left_out.push(format!(
                    "interface {name:?}, which is no Ethernet ({kind:?})"
                ));
                return Ok(());
            }
        };
        if let Some(other) = self.network.interfaces.iter().find(|one| one.mac == mac) {
            let names = [other.name.clone(), name];
            return Err(NetworkError::SameMac { names, mac });
        }
        self.indexes.push(link.header.index);
        self.network.interfaces.push(Interface {
            mac,
            name,
            mtu,
            ipv6,
            addresses: Vec::new(),
        });
        Ok(())
    }

    fn add_address(&mut self, message: &AddressMessage) {
        let (mut local, mut address, mut broadcast) = (None, None, None);
        let mut flags = AddressFlags::empty();
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
                AddressAttribute::Flags(value) => flags = *value,
                _ => {}
            }
        }
        let Some(interface) = self.interface(message.header.index) else {
            return;
        };
        // IPv6 has the local address in either place, IPv4 the other end in the second.
        let Some(ip) = local.or(address) else {
            return;
        };
        if is_made_by_the_kernel(ip, message, interface.mac, flags) {
            return;
        }
        interface.addresses.push(Address {
            ip,
            prefix: message.header.prefix_len,
            peer: address.filter(|peer| *peer != ip),
            broadcast,
            scope: message.header.scope.into(),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        });
    }

    fn add_route(&mut self, message: &RouteMessage) {
        let header = &message.header;
        let in_main = header.table == RouteHeader::RT_TABLE_MAIN;
        // The kernel makes its own from the addresses, and others from what routers announce.
        let made = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra);
        if !in_main || made || header.flags.contains(RouteFlags::Cloned) {
            return;
        }
        let unspecified: IpAddr = match header.address_family {
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let mut route = Route {
            interface: String::new(),
            destination: unspecified,
            prefix: header.destination_prefix_length,
            gateway: None,
            source: None,
            metric: 0,
            scope: header.scope.into(),
            on_link: header.flags.contains(RouteFlags::Onlink),
        };
        let mut simple = header.kind == RouteType::Unicast;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => route.destination = ip_of(to, unspecified),
                RouteAttribute::Gateway(via) => route.gateway = Some(ip_of(via, unspecified)),
                RouteAttribute::PrefSource(from) => route.source = Some(ip_of(from, unspecified)),
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Oif(index) => {
                    let found = self.interface(*index);
                    route.interface = found.map(|one| one.name.clone()).unwrap_or_default();
                }
                RouteAttribute::MultiPath(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::Encap(_) => {
                    simple = false;
                }
                _ => {}
            }
        }
        if simple && !route.interface.is_empty() {
            self.network.routes.push(route);
        } else {
            let (to, prefix) = (route.destination, route.prefix);
            self.left_out
                .push(format!("the route to {to}/{prefix} ({:?})", header.kind));
        }
    }

    fn add_neighbour(&mut self, message: &NeighbourMessage) {
        let (mut ip, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => {
                    ip = Some(IpAddr::from(*to));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => {
                    ip = Some(IpAddr::from(*to));
                }
                NeighbourAttribute::LinkLayerAddress(value) => {
                    mac = value.as_slice().try_into().ok();
                }
                _ => {}
            }
        }
        let permanent = message.header.state == NeighbourState::Permanent;
        let interface = self.interface(message.header.ifindex);
        if let (true, Some(interface), Some(ip), Some(mac)) = (permanent, interface, ip, mac) {
            let interface = interface.name.clone();
            let mac = MacAddress(mac);
            self.network
                .neighbours
                .push(Neighbour { interface, ip, mac });
        }
    }

    fn interface(&mut self, index: u32) -> Option<&mut Interface> {
        let place = self.indexes.iter().position(|one| *one == index)?;
        self.network.interfaces.get_mut(place)
    }

    fn finish(mut self) -> Result<Self, NetworkError> {
        let network = &mut self.network;
        // A gateway must be reachable when its route is added.
        network
            .routes
            .sort_by_key(|route| (route.gateway.is_some(), std::cmp::Reverse(route.prefix)));
        let addresses = network.interfaces.iter().map(|one| one.addresses.len());
        for (what, count, limit) in [
            ("interfaces", network.interfaces.len(), MAX_INTERFACES),
            ("addresses", addresses.sum(), MAX_ENTRIES),
            ("routes", network.routes.len(), MAX_ENTRIES),
            ("neighbours", network.neighbours.len(), MAX_ENTRIES),
        ] {
            if count > limit {
                return Err(NetworkError::TooMany { what, limit });
            }
        }
        Ok(self)
    }
}

fn has_ipv6(families: &[AfSpecUnspec]) -> bool {
    let inet6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    let disabled = inet6.into_iter().flatten().any(|setting| match setting {
        AfSpecInet6::DevConf(config) => config.disable_ipv6 != 0,
        _ => false,
    });
    inet6.is_some() && !disabled
}

/// The guest's kernel makes its own: from the same Ethernet address, and from what routers announce.
fn is_made_by_the_kernel(
    ip: IpAddr,
    message: &AddressMessage,
    mac: MacAddress,
    flags: AddressFlags,
) -> bool {
    let IpAddr::V6(ip) = ip else {
        return false;
    };
    let link_local = message.header.scope == AddressScope::Link && ip == link_local(mac);
    link_local || !flags.contains(AddressFlags::Permanent)
}

/// The address that follows from an Ethernet address (RFC 4291, appendix A).
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

fn ip_of(address: &RouteAddress, otherwise: IpAddr) -> IpAddr {
    match address {
        RouteAddress::Inet(ip) => (*ip).into(),
        RouteAddress::Inet6(ip) => (*ip).into(),
        _ => otherwise,
    }
}
