//! Network namespaces of the host as engines make them, each connected to the host by pairs of veths.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::leaks;
use crate::output::shell;

/// [`leaks::watched`] for tests with such namespaces: the first one brings a mount that stays.
pub fn watched(test: impl FnOnce() -> Result<()>) -> Result<()> {
    static READY: Once = Once::new();
    READY.call_once(|| drop(shell("ip netns add ready && ip netns del ready")));
    leaks::watched(test)
}

/// A network namespace with a name, as `ip netns` makes it. It goes with its interfaces when it goes out of scope.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A namespace with a loopback interface only.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}", std::process::id());
        shell(&format!(
            "ip netns add {name} && ip -n {name} link set lo up"
        ))?
        .ok();
        Ok(Self { name })
    }

    /// Connects it to the host: `interface` in it has 10.200.N.2/24 and fd00:N::2/64, the host 10.200.N.1 and fd00:N::1 at
    /// interface `tvN`.
    pub fn connect(&self, interface: &str, n: u8) -> Result<()> {
        let name = &self.name;
        let script = format!(
            "set -e
            ip link add tv{n} type veth peer name {interface} netns {name}
            ip addr add 10.200.{n}.1/24 dev tv{n}
            ip addr add fd00:{n}::1/64 dev tv{n} nodad
            ip link set tv{n} up
            ip -n {name} addr add 10.200.{n}.2/24 broadcast + dev {interface}
            ip -n {name} addr add fd00:{n}::2/64 dev {interface} nodad
            ip -n {name} link set {interface} up
            until ip -n {name} link show dev {interface} | grep -q 'state UP'; do sleep 0.05; done"
        );
        shell(&script)?.ok();
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip ARGUMENTS` in it.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        Ok(shell(&format!("ip -n {} {arguments}", self.name))?
            .ok()
            .to_owned())
    }

    /// Its links and queueing disciplines, as far as they do not count packets.
    pub fn inventory(&self) -> Result<String> {
        let name = &self.name;
        let script = format!("ip -n {name} -o link && ip -n {name} -o addr && tc -n {name} qdisc");
        // An address is tentative for a second after its link came up.
        Ok(shell(&script)?.ok().replace(" tentative", ""))
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        assert!(
            removed.is_ok_and(|status| status.success()),
            "cannot remove network namespace {}",
            self.name
        );
    }
}
