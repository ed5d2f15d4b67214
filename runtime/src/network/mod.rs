//! The network of a sandbox: a network namespace of the host, whose interfaces the guest takes over.
//!
//! ```text
//!   engine's bridge            network namespace of the monitor                  guest
//!   ──────── veth ──────── eth0 ─ tc ingress ─► mirred ─► tap husk2 ─ husk-vmm ─ eth0
//!                          eth0 ◄─ mirred ◄─ tc ingress ─ tap husk2 ─ virtio-net ─ the same MAC,
//!                                                                         MTU, addresses and routes
//! ```

mod error;
mod namespace;
mod netlink;
mod redirect;
mod survey;
mod tap;

pub(crate) use error::NetworkError;
pub(crate) use namespace::{Namespace, NamespaceId, Wanted, loopback_lacks_ipv6, on_host};

use protocol::network::Network;
use protocol::sandbox::{DeviceConfig, NetConfig};

use netlink::Netlink;
use redirect::Link;

/// The interfaces of a namespace as the machine gets them.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    network: Network,
    left_out: Vec<String>,
    links: Vec<Link>,
}

impl Wiring {
    /// Looks at the namespace that this process is in, and notes there what is going to be added to it.
    pub(crate) fn plan(namespace: &mut Namespace) -> Result<Self, NetworkError> {
        let netlink = open()?;
        let survey = survey::survey(&netlink)?;
        let named = survey.indexes.iter().zip(&survey.network.interfaces);
        let links: Vec<_> = named
            .map(|(index, interface)| Link::new(*index, &interface.name))
            .collect();
        namespace.links.clone_from(&links);
        Ok(Self {
            network: survey.network,
            left_out: survey.left_out,
            links,
        })
    }

    /// What the guest does not get, a line each.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What the guest is told, if there is more than a loopback interface.
    pub(crate) fn into_network(self) -> Option<Network> {
        (!self.links.is_empty()).then_some(self.network)
    }

    /// Makes a tap beside each interface.
    pub(crate) fn make_taps(&self) -> Result<(), NetworkError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let netlink = open()?;
        let interfaces = self.network.interfaces.iter();
        let mut pairs = self.links.iter().zip(interfaces);
        pairs.try_for_each(|(link, interface)| link.make_tap(&netlink, interface.mtu))
    }

    /// Connects the interfaces to the taps, which the machine has opened by now.
    pub(crate) fn connect(&self) -> Result<(), NetworkError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let netlink = open()?;
        self.links
            .iter()
            .try_for_each(|link| link.connect(&netlink))
    }

    /// The machine's devices, in the order of the interfaces.
    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceConfig> {
        let pairs = self.links.iter().zip(&self.network.interfaces);
        pairs.map(|(link, interface)| {
            DeviceConfig::Net(NetConfig {
                tap: link.tap.clone(),
                // The machine monitor is started in the namespace.
                netns: None,
                mac: Some(interface.mac.to_string()),
                // Checked by the survey.
                mtu: u16::try_from(interface.mtu).ok(),
                queue_pairs: 1,
            })
        })
    }
}

fn open() -> Result<Netlink, NetworkError> {
    let failed = |source| NetworkError::Survey {
        what: "interfaces",
        source,
    };
    Netlink::open().map_err(failed)
}
