//! The networks of Podman and Docker with husk in runc's place: the same commands, the same answers.

use anyhow::Result;
use tests::comparison::compare;
use tests::engine::Kind;
use tests::network::watched;

const NETWORKS: &str = include_str!("../engines/networks.txt");

/// The sections of every run, or the others.
fn networks(kind: Kind, quick: bool) -> Result<()> {
    watched(|| compare(kind, NETWORKS, quick))
}

#[test]
fn podmans_default_network_is_as_with_runc() -> Result<()> {
    networks(Kind::Podman, true)
}

#[test]
fn dockers_default_network_is_as_with_runc() -> Result<()> {
    networks(Kind::Docker, true)
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn podmans_other_networks_are_as_with_runc() -> Result<()> {
    networks(Kind::Podman, false)
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn dockers_other_networks_are_as_with_runc() -> Result<()> {
    networks(Kind::Docker, false)
}
