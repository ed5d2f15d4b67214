//! The interfaces of a container's network namespace, taken over by its machine.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::husk::{self, Container, husk};
use tests::network::{Namespace, watched};
use tests::output::{self, shell};

const SOON: Duration = Duration::from_secs(30);

/// A busybox bundle whose network namespace is at `path`, or a new one.
fn bundle(path: Option<&Path>, line: &str) -> Result<Bundle> {
    let mut network = json!({"type": "network"});
    if let Some(path) = path {
        network["path"] = json!(path);
    }
    let namespaces =
        json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, network]);
    let capabilities = json!(["CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_KILL"]);
    let all =
        json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    Bundle::busybox()?
        .shell(line)?
        .set("/process/capabilities", all)?
        .set("/linux/namespaces", namespaces)
}

fn untouched(namespace: &Namespace, before: &str) -> Result<()> {
    let after = namespace.inventory()?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

#[test]
fn the_guest_has_the_interfaces_of_the_namespace() -> Result<()> {
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("net7", 1)?;
        namespace.connect("eth0", 2)?;
        namespace.ip("link set eth0 down")?;
        namespace.ip("link set eth0 mtu 1400 address 02:11:22:33:44:55")?;
        namespace.ip("link set eth0 up")?;
        namespace.ip("addr add fd00:2::2/64 dev eth0 nodad")?;
        namespace.ip("addr add 192.0.2.7/32 dev eth0")?;
        namespace.ip("route add default via 10.200.2.1 metric 7")?;
        namespace.ip("-6 route add default via fd00:2::1")?;
        namespace.ip("route add 198.51.100.0/24 via 10.200.1.1 src 10.200.1.2")?;
        namespace.ip("route add 203.0.113.9 dev net7")?;
        namespace.ip("neigh add 10.200.1.77 lladdr 02:00:00:00:00:77 dev net7 nud permanent")?;
        let before = namespace.inventory()?;
        let line = "busybox ip link; busybox ip addr; busybox ip route; busybox ip -6 route; busybox ip neigh
            ping -c1 -w5 10.200.1.1 && ping -c1 -w5 10.200.2.1 && ping -c1 -w5 -6 fd00:1::1 && ping -c1 -w5 -6 fd00:2::1 && echo all answer";
        let line = line.replace("ping", "busybox ping");
        let seen = husk::run(&bundle(Some(&namespace.path()), &line)?)?;
        for expected in [
            "eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400",
            "net7: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500",
            "link/ether 02:11:22:33:44:55",
            "inet 10.200.1.2/24 brd 10.200.1.255 scope global net7",
            "inet 10.200.2.2/24 brd 10.200.2.255 scope global eth0",
            "inet 192.0.2.7/32 scope global eth0",
            "inet6 fd00:1::2/64 scope global",
            "inet6 fd00:2::2/64 scope global",
            "default via 10.200.2.1 dev eth0  metric 7",
            "198.51.100.0/24 via 10.200.1.1 dev net7  src 10.200.1.2",
            "203.0.113.9 dev net7 scope link",
            "default via fd00:2::1 dev eth0",
            "10.200.1.77 dev net7 lladdr 02:00:00:00:00:77",
            "all answer",
        ] {
            ensure!(seen.ok().contains(expected), "no {expected:?} in {seen:?}");
        }
        untouched(&namespace, &before)?;
        Ok(())
    })
}

#[test]
fn bytes_arrive_as_they_were_sent_in_both_directions() -> Result<()> {
    const SIZE: usize = 1 << 20;
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("eth0", 3)?;
        let listener = TcpListener::bind("10.200.3.1:0")?;
        let port = listener.local_addr()?.port();
        // Out of the guest and back: what comes is returned.
        let echo = thread::spawn(move || -> Result<usize> {
            let (mut socket, _) = listener.accept()?;
            let mut bytes = vec![0; SIZE];
            socket.read_exact(&mut bytes)?;
            socket.write_all(&bytes)?;
            Ok(bytes.len())
        });
        let line = format!(
            "head -c {SIZE} /dev/urandom >/tmp/sent
            busybox nc -w 20 10.200.3.1 {port} </tmp/sent >/tmp/received
            sha256sum </tmp/sent; sha256sum </tmp/received; wc -c </tmp/received"
        );
        let seen = husk::run(&bundle(Some(&namespace.path()), &line)?)?;
        let lines: Vec<_> = seen.ok().lines().map(str::trim).collect();
        ensure!(lines.len() == 3 && lines[0] == lines[1], "{seen:?}");
        ensure!(lines[2] == SIZE.to_string(), "{seen:?}");
        // Segments pass whole, in both directions: nobody on the way has to cut them up.
        for direction in ["rx", "tx"] {
            let of = |what: &str| -> Result<u64> {
                let file = format!("/sys/class/net/tv3/statistics/{direction}_{what}");
                Ok(fs::read_to_string(file)?.trim().parse()?)
            };
            let (bytes, packets) = (of("bytes")?, of("packets")?);
            ensure!(bytes > packets * 1514, "{direction}: {bytes} in {packets}");
        }
        let echoed = echo.join().ok().context("the echo panicked")??;
        ensure!(echoed == SIZE, "{echoed}");
        Ok(())
    })
}

#[test]
fn the_host_reaches_a_server_in_the_guest() -> Result<()> {
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("eth0", 4)?;
        let server = "while true; do echo served | busybox nc -l -p 80; done";
        let bundle = bundle(Some(&namespace.path()), server)?;
        let container = Container::running(&bundle)?;
        let mut answer = String::new();
        output::until("the server answers", SOON, || {
            let mut connect = || -> Result<()> {
                let mut socket = TcpStream::connect("10.200.4.2:80")?;
                socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                socket.write_all(b"\n")?;
                socket.read_to_string(&mut answer)?;
                Ok(())
            };
            connect().is_ok() && answer.contains("served")
        })?;
        ensure!(container.verb("kill", &["KILL"])?.status.success());
        container.wait_for("stopped", SOON)?;
        Ok(())
    })
}

#[test]
fn what_a_killed_monitor_leaves_is_cleaned_by_force() -> Result<()> {
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("eth0", 5)?;
        let before = namespace.inventory()?;
        let bundle = bundle(Some(&namespace.path()), "sleep 1000")?;
        let container = Container::running(&bundle)?;
        ensure!(namespace.inventory()?.contains("husk"), "nothing was added");
        shell(&format!("kill -KILL {}", container.monitor()))?.ok();
        container.wait_for("stopped", SOON)?;
        let deleted = husk(&["delete", "--force", container.id()])?;
        ensure!(deleted.status.success(), "{deleted:?}");
        untouched(&namespace, &before)?;
        // And it can be used again.
        let again = husk::run(&self::bundle(
            Some(&namespace.path()),
            "busybox ping -c1 -w5 10.200.5.1",
        )?)?;
        ensure!(again.status.success(), "{again:?}");
        Ok(())
    })
}

#[test]
fn hooks_bring_interfaces_into_the_namespace_of_the_monitor() -> Result<()> {
    watched(|| {
        let dir = tempfile::tempdir()?;
        let hook = dir.path().join("hook");
        // As Docker's: it finds the namespace by the pid in the state, and is itself on the host.
        let script = "#!/bin/sh
            set -e
            pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')
            ip link add tv6 type veth peer name eth0 netns $pid
            ip addr add 10.200.6.1/24 dev tv6 && ip link set tv6 up
            nsenter -t $pid -n sh -c 'ip addr add 10.200.6.2/24 dev eth0; ip link set eth0 up'
        ";
        fs::write(&hook, script)?;
        shell(&format!("chmod +x {}", hook.display()))?.ok();
        let line = "busybox ip addr show dev eth0; busybox ping -c1 -w5 10.200.6.1";
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let hooks: Value = json!({"prestart": [{"path": hook, "args": ["hook"], "env": [path]}]});
        let seen = husk::run(&bundle(None, line)?.set("/hooks", hooks)?)?;
        ensure!(seen.ok().contains("inet 10.200.6.2/24"), "{seen:?}");
        Ok(())
    })
}

#[test]
fn a_new_namespace_has_a_loopback_interface_only() -> Result<()> {
    watched(|| {
        let line = "busybox ip -o link; busybox ping -c1 -w5 127.0.0.1 >/dev/null && echo alive";
        let seen = husk::run(&bundle(None, line)?)?;
        let lines: Vec<_> = seen.ok().lines().collect();
        ensure!(
            lines.len() == 2 && lines[0].contains("lo: <LOOPBACK,UP"),
            "{seen:?}"
        );
        ensure!(lines[1] == "alive", "{seen:?}");
        Ok(())
    })
}

#[test]
fn networks_of_others_are_refused_and_not_touched() -> Result<()> {
    watched(|| {
        let host = shell("ip -o link; ip -o addr; tc qdisc")?;
        let no_network = json!([{"type": "pid"}, {"type": "mount"}]);
        let refused = husk::run(&bundle(None, "true")?.set("/linux/namespaces", no_network)?)?;
        let text = refused.fails_with(1);
        ensure!(
            text.contains("linux.namespaces") && text.contains("host"),
            "{text}"
        );
        let refused = husk::run(&bundle(Some(Path::new("/proc/1/ns/net")), "true")?)?;
        let text = refused.fails_with(1);
        ensure!(text.contains("linux.namespaces[4].path"), "{text}");
        ensure!(shell("ip -o link; ip -o addr; tc qdisc")?.stdout == host.stdout);

        let namespace = Namespace::new()?;
        namespace.connect("eth0", 8)?;
        let before = namespace.inventory()?;
        let path = namespace.path();
        let mut other = std::process::Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["sleep", "1000"])
            .spawn()?;
        let in_it = format!("ip netns pids {} | grep -q .", namespace.name());
        output::until("a process is in it", SOON, || {
            shell(&in_it).is_ok_and(|out| out.status.success())
        })?;
        let refused = husk::run(&bundle(Some(&path), "true")?);
        other.kill()?;
        other.wait()?;
        let refused = refused?;
        let text = refused.fails_with(1);
        ensure!(text.contains(&format!("process {}", other.id())), "{text}");
        untouched(&namespace, &before)?;
        Ok(())
    })
}

#[test]
fn an_interface_that_is_redirected_already_is_refused_by_name() -> Result<()> {
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("eth0", 9)?;
        let name = namespace.name();
        shell(&format!("tc -n {name} qdisc add dev eth0 ingress"))?.ok();
        let before = namespace.inventory()?;
        let refused = husk::run(&bundle(Some(&namespace.path()), "true")?)?;
        let text = refused.fails_with(1);
        ensure!(text.contains("\"eth0\" has an ingress"), "{text}");
        untouched(&namespace, &before)?;
        Ok(())
    })
}

#[test]
fn network_sysctls_are_the_guests() -> Result<()> {
    watched(|| {
        let namespace = Namespace::new()?;
        namespace.connect("eth0", 10)?;
        let sysctls = json!({
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
            "net.ipv4.conf.eth0.arp_announce": "2",
        });
        let line = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start conf/eth0/arp_announce";
        let seen =
            husk::run(&bundle(Some(&namespace.path()), line)?.set("/linux/sysctl", sysctls)?)?;
        ensure!(seen.ok() == "0\n2", "{seen:?}");
        Ok(())
    })
}
