//! The network of the guest: the loopback interface of every namespace, and the devices that the host describes.

mod netlink;

use std::collections::HashMap;
use std::net::IpAddr;

use protocol::network::{Address, Interface, MacAddress, Neighbour, Network, Route};
use rustix::io::Errno;

use netlink::{Message, Netlink};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const IFF_UP: u32 = 1;
/// The host's side has found out already that nobody else has the address.
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const NUD_PERMANENT: u16 = 0x80;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// No connection to the kernel.
    #[error("cannot open a netlink socket")]
    Socket(#[source] Errno),
    /// The loopback interface.
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] Errno),
    /// The machine has no such device.
    #[error("no network device has the address {0}")]
    NoDevice(MacAddress),
    /// A route or neighbour of an interface that is not described.
    #[error("no interface is called {0:?}")]
    NoInterface(String),
    /// The kernel does not take it.
    #[error("cannot set up {what} of interface {interface:?}")]
    Refused {
        /// What.
        what: String,
        /// Whose.
        interface: String,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// Sets `IFF_UP` on the loopback interface of the caller's network namespace.
pub(crate) fn loopback_up() -> Result<(), NetworkError> {
    let netlink = Netlink::open().map_err(NetworkError::Socket)?;
    let message = Message::change(RTM_NEWLINK, &link(LOOPBACK_INDEX, IFF_UP));
    netlink.request(message).map_err(NetworkError::Loopback)
}

/// Sets up what is described, in the caller's network namespace.
pub(crate) fn set_up(network: &Network) -> Result<(), NetworkError> {
    let netlink = Netlink::open().map_err(NetworkError::Socket)?;
    let devices = devices();
    let mut indexes = HashMap::new();
    for interface in &network.interfaces {
        let found = devices.iter().find(|device| device.mac == interface.mac);
        let index = found.ok_or(NetworkError::NoDevice(interface.mac))?.index;
        indexes.insert(interface.name.as_str(), index);
    }
    // Out of the way first: one may have the name that another is to get.
    for interface in &network.interfaces {
        let index = indexes[interface.name.as_str()];
        let message = Message::change(RTM_NEWLINK, &link(index, 0));
        let message = message.with(IFLA_IFNAME, &text(&format!("husk-{index}")));
        let outcome = netlink.request(message);
        outcome.map_err(refused("the name", &interface.name))?;
    }
    for interface in &network.interfaces {
        set_up_interface(&netlink, interface, indexes[interface.name.as_str()])?;
    }
    let index_of = |name: &String| match indexes.get(name.as_str()) {
        Some(index) => Ok(*index),
        None => Err(NetworkError::NoInterface(name.clone())),
    };
    for one in &network.routes {
        match netlink.request(route(one, index_of(&one.interface)?)) {
            // The kernel has made the same of an address.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                let what = format!("the route to {}/{}", one.destination, one.prefix);
                return Err(refused(&what, &one.interface)(errno));
            }
        }
    }
    for one in &network.neighbours {
        let outcome = netlink.request(neighbour(one, index_of(&one.interface)?));
        let what = || format!("the neighbour {}", one.ip);
        outcome.map_err(|errno| refused(&what(), &one.interface)(errno))?;
    }
    Ok(())
}

fn refused(what: &str, interface: &str) -> impl FnOnce(Errno) -> NetworkError {
    let (what, interface) = (what.to_owned(), interface.to_owned());
    move |source| NetworkError::Refused {
        what,
        interface,
        source,
    }
}

/// A network device of the guest.
struct Device {
    mac: MacAddress,
    index: u32,
}

fn devices() -> Vec<Device> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let device = |entry: std::fs::DirEntry| {
        let read = |name| std::fs::read_to_string(entry.path().join(name)).ok();
        Some(Device {
            mac: read("address")?.trim().parse().ok()?,
            index: read("ifindex")?.trim().parse().ok()?,
        })
    };
    entries.flatten().filter_map(device).collect()
}

fn set_up_interface(
    netlink: &Netlink,
    interface: &Interface,
    index: u32,
) -> Result<(), NetworkError> {
    let name = &interface.name;
    let message = Message::change(RTM_NEWLINK, &link(index, 0));
    let message = message.with(IFLA_IFNAME, &text(name));
    netlink
        .request(message)
        .map_err(refused("the name", name))?;
    if !interface.ipv6 {
        // Before it is up: then it would get an address. A kernel without IPv6 has no such file and needs none.
        let file = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        std::fs::write(file, "1").ok();
    }
    let message = Message::change(RTM_NEWLINK, &link(index, IFF_UP));
    let message = message.with(IFLA_MTU, &interface.mtu.to_ne_bytes());
    netlink
        .request(message)
        .map_err(refused("the link", name))?;
    for one in &interface.addresses {
        let outcome = netlink.request(address(one, index));
        outcome.map_err(|errno| refused(&format!("the address {}", one.ip), name)(errno))?;
    }
    Ok(())
}

/// `struct ifinfomsg`: index, flags, and which flags change.
fn link(index: u32, up: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&up.to_ne_bytes());
    body[12..16].copy_from_slice(&up.to_ne_bytes());
    body
}

fn address(address: &Address, index: u32) -> Message {
    // struct ifaddrmsg
    let mut body = [
        family(address.ip),
        address.prefix,
        0,
        address.scope,
        0,
        0,
        0,
        0,
    ];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut flags = IFA_F_NODAD;
    if address.no_prefix_route {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    let broadcast = address.broadcast.map(|ip| ip.octets());
    Message::create(RTM_NEWADDR, &body)
        .with(IFA_LOCAL, &octets(address.ip))
        .with(IFA_ADDRESS, &octets(address.peer.unwrap_or(address.ip)))
        .with_optional(IFA_BROADCAST, broadcast.as_ref().map(<[u8; 4]>::as_slice))
        .with(IFA_FLAGS, &flags.to_ne_bytes())
}

fn route(route: &Route, index: u32) -> Message {
    // struct rtmsg
    let mut body = [0; 12];
    body[0] = family(route.destination);
    body[1] = route.prefix;
    body[4..8].copy_from_slice(&[RT_TABLE_MAIN, RTPROT_BOOT, route.scope, RTN_UNICAST]);
    if route.on_link {
        body[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let (gateway, source) = (route.gateway.map(octets), route.source.map(octets));
    let metric = route.metric.to_ne_bytes();
    // Two networks may both bring a default route, with the same metric.
    Message::create_beside(RTM_NEWROUTE, &body)
        .with(RTA_DST, &octets(route.destination))
        .with(RTA_OIF, &index.to_ne_bytes())
        .with_optional(RTA_GATEWAY, gateway.as_deref())
        .with_optional(RTA_PREFSRC, source.as_deref())
        .with_optional(RTA_PRIORITY, (route.metric != 0).then_some(&metric[..]))
}

fn neighbour(neighbour: &Neighbour, index: u32) -> Message {
    // struct ndmsg
    let mut body = [0; 12];
    body[0] = family(neighbour.ip);
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    Message::create(RTM_NEWNEIGH, &body)
        .with(NDA_DST, &octets(neighbour.ip))
        .with(NDA_LLADDR, &neighbour.mac.0)
}

/// `AF_INET` or `AF_INET6`.
fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Text as the kernel wants it.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}
