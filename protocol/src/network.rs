//! What a guest's network is set up as: the part of a network namespace of the host that its machine takes over.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Everything at once. An interface is named by its name in `interfaces`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Interfaces to set up; others are left alone.
    pub interfaces: Vec<Interface>,
    /// Routes beside those that follow from the addresses, in an order in which they can be added.
    pub routes: Vec<Route>,
    /// Neighbours that are known for ever.
    pub neighbours: Vec<Neighbour>,
}

/// One network device of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Which device.
    pub mac: MacAddress,
    /// What to call it.
    pub name: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Whether it has IPv6 at all.
    pub ipv6: bool,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix, in bits.
    pub prefix: u8,
    /// The other end, where there are only two.
    pub peer: Option<IpAddr>,
    /// Where broadcasts go.
    pub broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*` (rtnetlink(7)).
    pub scope: u8,
    /// Without a route to the network (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The interface that it leads to.
    pub interface: String,
    /// The network.
    pub destination: IpAddr,
    /// Length of its prefix, in bits; 0 for the default route.
    pub prefix: u8,
    /// Through whom; absent for those that are reached directly.
    pub gateway: Option<IpAddr>,
    /// Preferred address of the sender.
    pub source: Option<IpAddr>,
    /// Smaller is preferred; 0 if unset.
    pub metric: u32,
    /// `RT_SCOPE_*` (rtnetlink(7)).
    pub scope: u8,
    /// The gateway is on the link although no address says so (`RTNH_F_ONLINK`).
    pub on_link: bool,
}

/// A permanent entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// The interface.
    pub interface: String,
    /// Who.
    pub ip: IpAddr,
    /// Where.
    pub mac: MacAddress,
}

/// An Ethernet address; as text, six bytes in hexadecimal with colons between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(formatter, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

/// The text is no Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not six bytes in hexadecimal with colons between")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let part = part.filter(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let parsed = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *byte = parsed.ok_or(MacAddressError)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacAddressError),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_is_read_as_it_is_written() {
        let address = MacAddress([0x02, 0x42, 0xac, 0x11, 0x00, 0xff]);
        assert_eq!(address.to_string(), "02:42:ac:11:00:ff");
        assert_eq!("02:42:AC:11:00:fF".parse(), Ok(address));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:ff:00",
            "2:42:ac:11:00:ff",
            "02:42:ac:11:00:+f",
            "02-42-ac-11-00-ff",
            "02:42:ac:11:00:gg",
            "é:42:ac:11:00:00",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError), "{text}");
        }
    }
}
