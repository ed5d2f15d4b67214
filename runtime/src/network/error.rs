//! Why a sandbox does not get the network it asks for.

use std::io;
use std::path::PathBuf;

use protocol::network::MacAddress;

/// A network that husk cannot or will not give.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The spec shares the host's network namespace.
    #[error("field {field:?}: the host's network is not supported yet")]
    Host {
        /// The field that says so.
        field: String,
    },
    /// The spec joins a network namespace that other processes use.
    #[error("field {field:?}: {path} is used by process {pid}: joining it is not supported yet")]
    Occupied {
        /// The field.
        field: String,
        /// The namespace.
        path: PathBuf,
        /// One of the processes.
        pid: i32,
    },
    /// The namespace cannot be had.
    #[error("field {field:?}: cannot use {path}")]
    Path {
        /// The field.
        field: String,
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not tell what the namespace holds.
    #[error("cannot read the {what} of the network namespace")]
    Survey {
        /// What was asked for.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The guest could not tell two interfaces apart.
    #[error("interfaces {:?} and {:?} have the same address {mac}", names[0], names[1])]
    SameMac {
        /// Their names.
        names: [String; 2],
        /// Their address.
        mac: MacAddress,
    },
    /// The namespace is not one of a container.
    #[error("the network namespace has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Packets of the interface are redirected already.
    #[error("interface {name:?} has an ingress queueing discipline already")]
    Redirected {
        /// Its name.
        name: String,
    },
    /// A machine that runs cannot get an interface.
    #[error("a container that joins a sandbox has interfaces of its own: not supported yet")]
    Late,
    /// What husk has added to the namespace cannot be removed.
    #[error("cannot clean the network namespace {path}")]
    Clean {
        /// The namespace.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A machine's device cannot have it.
    #[error("interface {name:?}: cannot use an MTU of {mtu}")]
    Mtu {
        /// The interface.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// The interface cannot be connected to the machine.
    #[error("cannot {action} for interface {name:?}")]
    Connect {
        /// What was tried.
        action: &'static str,
        /// For which.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The monitor cannot get into its namespace.
    #[error("cannot {action} a network namespace")]
    Enter {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
