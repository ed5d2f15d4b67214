//! virtio-net: a guest with a network interface, connected to a tap in a network namespace of the test's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::debian_guest::DebianGuest;
use tests::machine::{KERNEL, Machine};
use tests::network::watched;
use tests::output;

const PEER: &str = include_str!("../net/peer.py");
const NETNS: &str = "husk-net";
/// The testbed is slow: 200 MiB under emulation take the better part of a minute on an idle machine.
const LIMIT: Duration = Duration::from_secs(400);

/// What each guest does first.
const SET_UP: &str = "set -ex
ip link set lo up
ip link set eth0 up
ip address add 10.9.0.2/24 dev eth0
ip address add fd09::2/64 dev eth0 nodad
ping -c 1 -W 20 10.9.0.1
";

/// A network namespace with a tap; both go when it goes.
struct Wire;

impl Wire {
    /// `tap` are more arguments for the tap, `link` for the interface.
    fn new(tap: &str, link: &str) -> Result<Self> {
        let wire = Self;
        shell(&format!(
            "ip netns add {NETNS} && cd / && ip -n {NETNS} link set lo up \
             && ip -n {NETNS} tuntap add name tap0 mode tap {tap} \
             && ip -n {NETNS} link set tap0 up {link} \
             && ip -n {NETNS} address add 10.9.0.1/24 dev tap0 \
             && ip -n {NETNS} address add fd09::1/64 dev tap0 nodad"
        ))?;
        Ok(wire)
    }

    /// The device of a guest at its other end.
    fn device(queue_pairs: u16) -> Value {
        json!({
            "type": "net", "tap": "tap0", "netns": format!("/run/netns/{NETNS}"),
            "mac": "02:00:5e:10:00:01", "queue_pairs": queue_pairs,
        })
    }

    /// Starts the host's side of `peer.py`.
    fn serve(address: &str, streams: u32) -> Result<Server> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NETNS, "python3", "-c", PEER, "serve"]);
        command.args([address, "5000", &streams.to_string()]);
        let child = command.stdout(Stdio::null()).spawn();
        Ok(Server(child.context("cannot start the host's side")?))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // What is left is a mount, which the check for leaks tells of.
        let _gone = shell(&format!("ip netns delete {NETNS}"));
    }
}

fn shell(script: &str) -> Result<String> {
    let out = output::run(Command::new("sh").args(["-c", script]), b"")?;
    ensure!(out.status.success(), "{script}: {out:?}");
    Ok(out.stdout)
}

/// A guest with `device`, and `peer.py` where it finds it.
fn guest(vcpus: u8, device: Value) -> Result<DebianGuest> {
    let guest = DebianGuest::with(vcpus, vec![device])?;
    guest.put("peer.py", PEER.as_bytes())?;
    Ok(guest)
}

/// The host's side of `peer.py`, which waits for the guest's.
struct Server(Child);

impl Server {
    /// It ends when it has served.
    fn finish(mut self) -> Result<()> {
        let ended = output::wait(&mut self.0, LIMIT)?;
        ensure!(ended.success(), "the host's side: {ended}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Both sides ping, by both protocols; then so many MiB go out and come back.
fn talk(mib: u32) -> Result<()> {
    watched(|| {
        let _wire = Wire::new("", "")?;
        let guest = guest(1, Wire::device(1))?;
        let server = Wire::serve("10.9.0.1", 1)?;
        let script = format!(
            "{SET_UP}
            grep -x 02:00:5e:10:00:01 /sys/class/net/eth0/address
            grep -x 1500 /sys/class/net/eth0/mtu
            ping -c 3 -W 20 10.9.0.1
            ping -6 -c 3 -W 20 fd09::1
            touch /mnt/here
            python3 /mnt/peer.py talk 10.9.0.1 5000 1 {mib}
            until [ -e /mnt/heard ]; do sleep 0.1; done
            ip -s link show eth0\n"
        );
        let said = guest.run_beside(&script, LIMIT, |machine| {
            guest.wait_for("here", machine, LIMIT)?;
            shell(&format!("ip netns exec {NETNS} ping -c 3 -W 20 10.9.0.2"))?;
            shell(&format!("ip netns exec {NETNS} ping -6 -c 3 -W 20 fd09::2"))?;
            guest.put("heard", b"").map(drop)
        })?;
        ensure!(said.status == 0, "{said:?}");
        server.finish()
    })
}

#[test]
fn a_guest_talks_to_its_host_by_both_protocols_and_bytes_come_through_intact() -> Result<()> {
    talk(8)
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn a_hundred_mib_come_through_intact() -> Result<()> {
    talk(100)
}

#[test]
fn two_processors_use_a_pair_of_queues_each_and_jumbo_frames_pass() -> Result<()> {
    watched(|| {
        let _wire = Wire::new("multi_queue", "mtu 9000")?;
        let guest = guest(2, Wire::device(2))?;
        let server = Wire::serve("fd09::1", 4)?;
        let said = guest.run(
            &format!(
                "{SET_UP}
                grep -x 9000 /sys/class/net/eth0/mtu
                [ -e /sys/class/net/eth0/queues/rx-1 ] && [ ! -e /sys/class/net/eth0/queues/rx-2 ]
                ping -c 1 -W 20 -M do -s 8972 10.9.0.1
                python3 /mnt/peer.py talk fd09::1 5000 4 2
                interrupts() {{ grep -e \"-$1$\" /proc/interrupts | grep -v ':  *0  *0 '; }}
                interrupts input.0 && interrupts input.1\n"
            ),
            LIMIT,
        )?;
        ensure!(said.status == 0, "{said:?}");
        server.finish()
    })
}

#[test]
fn a_link_that_goes_down_comes_back_and_a_tap_that_is_deleted_hurts_nobody() -> Result<()> {
    watched(|| {
        let _wire = Wire::new("", "")?;
        let guest = guest(1, Wire::device(1))?;
        let flood = "python3 - <<'END' &
import socket
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try: flood.sendto(bytes(1400), ('10.9.0.1', 9))
    except OSError: pass
END
";
        // Neighbours are fixed, so that the guest goes on sending when nobody answers.
        let script = format!(
            "{SET_UP}
            ip neighbour replace 10.9.0.1 lladdr $(ip neighbour show 10.9.0.1 | grep -o 'lladdr [^ ]*' | cut -d ' ' -f 2) dev eth0
            {flood}
            touch /mnt/here
            until [ -e /mnt/back ]; do sleep 0.1; done
            ping -c 1 -W 20 10.9.0.1
            touch /mnt/heard
            until [ -e /mnt/deleted ]; do sleep 0.1; done
            ping -c 1 -W 1 10.9.0.1 && exit 1
            kill %1\n"
        );
        let said = guest.run_beside(&script, LIMIT, |machine| {
            guest.wait_for("here", machine, LIMIT)?;
            shell(&format!(
                "ip -n {NETNS} link set tap0 down && sleep 1 && ip -n {NETNS} link set tap0 up"
            ))?;
            guest.put("back", b"")?;
            guest.wait_for("heard", machine, LIMIT)?;
            shell(&format!("ip -n {NETNS} link delete tap0 && sleep 1"))?;
            guest.put("deleted", b"").map(drop)
        })?;
        ensure!(said.status == 0, "{said:?}");
        Ok(())
    })
}

#[test]
fn a_tap_that_cannot_be_used_is_named() -> Result<()> {
    watched(|| {
        let _wire = Wire::new("", "")?;
        shell(&format!("ip -n {NETNS} tuntap add name tun0 mode tun"))?;
        for (device, expected) in [
            (
                json!({"type": "net", "tap": "tap0"}),
                "devices[0].tap: there is no interface tap0",
            ),
            (
                json!({"type": "net", "tap": "tun0", "netns": format!("/run/netns/{NETNS}")}),
                "devices[0].tap: cannot attach to tun0",
            ),
            (
                Wire::device(2),
                "devices[0].tap: cannot attach to tap0 with 2 queues",
            ),
            (
                json!({"type": "net", "tap": "tap0", "netns": "/run/netns/none"}),
                "devices[0].netns: cannot open \"/run/netns/none\"",
            ),
        ] {
            let machine = Machine::new(&json!({"boot": {"kernel": KERNEL}, "devices": [device]}))?;
            let out = machine.run()?;
            let said = out.fails_with(2);
            ensure!(said.contains(expected), "{said}");
        }
        Ok(())
    })
}
