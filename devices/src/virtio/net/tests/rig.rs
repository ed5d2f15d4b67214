//! A mock port, which is a pair of sockets that keep packets apart, and the device between it and a mock driver.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF};

use super::super::features::{GUEST_OFFLOADS, bit};
use super::super::header::HEADER_BYTES;
use super::super::*;
use crate::virtio::mock::{self, Driver};

/// What the device asked of its port.
#[derive(Default)]
struct Asked {
    offloads: Option<u64>,
    attached: Option<bool>,
}

struct MockPort {
    socket: OwnedFd,
    asked: Arc<Mutex<Asked>>,
}

impl AsFd for MockPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Port for MockPort {
    fn offloads(&self) -> u64 {
        GUEST_OFFLOADS
    }

    fn set_offloads(&self, offloads: u64) -> io::Result<()> {
        self.asked.lock().unwrap().offloads = Some(offloads);
        Ok(())
    }

    fn set_attached(&mut self, attached: bool) -> io::Result<()> {
        self.asked.lock().unwrap().attached = Some(attached);
        Ok(())
    }
}

/// The far end of a port: the host.
pub(super) struct Host {
    socket: OwnedFd,
    asked: Arc<Mutex<Asked>>,
}

impl Host {
    pub(super) fn send(&self, packet: &[u8]) {
        rustix::net::send(&self.socket, packet, SendFlags::empty()).unwrap();
    }

    pub(super) fn receive(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 1 << 17];
        match rustix::net::recv(&self.socket, &mut packet, RecvFlags::DONTWAIT) {
            Ok((len, _)) => Some(packet[..len].to_vec()),
            Err(Errno::AGAIN) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn offloads(&self) -> Option<u64> {
        self.asked.lock().unwrap().offloads
    }

    pub(super) fn attached(&self) -> Option<bool> {
        self.asked.lock().unwrap().attached
    }
}

fn port() -> (Box<dyn Port>, Host) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
    let asked = Arc::<Mutex<Asked>>::default();
    let host = Host {
        socket: theirs,
        asked: asked.clone(),
    };
    let socket = ours;
    (Box::new(MockPort { socket, asked }), host)
}

/// A device with `pairs` pairs, and all that is around it.
pub(super) struct Rig {
    pub(super) net: Net,
    pub(super) hosts: Vec<Host>,
    /// Receive and transmit queue of each pair, then the control queue.
    pub(super) drivers: Vec<Driver>,
}

pub(super) const SIZE: u16 = 16;

impl Rig {
    pub(super) fn new(pairs: usize, features: u64) -> Self {
        let (ports, hosts) = (0..pairs).map(|_| port()).unzip();
        let identity = Identity {
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
        };
        let mut net = Net::new(identity, ports).unwrap();
        let memory = mock::memory();
        let drivers: Vec<_> = (0..)
            .take(2 * pairs + 1)
            .map(|index| Driver::in_memory(memory.clone(), index, SIZE))
            .collect();
        let activation = Activation {
            queues: drivers.iter().map(|driver| Some(driver.queue())).collect(),
            features,
            config_changed: Arc::new(mock::Counter::default()),
        };
        net.activate(activation).unwrap();
        Self {
            net,
            hosts,
            drivers,
        }
    }

    /// All features, with or without mergeable buffers.
    pub(super) fn mergeable(mergeable: bool) -> Self {
        let mut features = !bit(VIRTIO_NET_F_MQ);
        if !mergeable {
            features &= !bit(VIRTIO_NET_F_MRG_RXBUF);
        }
        Self::new(1, features)
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let all = self.net.counters();
        all.iter().find(|(of, _)| *of == name).unwrap().1
    }

    /// What is in the buffers at `addresses`, as far as the device says to have filled them.
    pub(super) fn received(&mut self, rooms: &[(u16, u64)]) -> Vec<Vec<u8>> {
        let driver = &mut self.drivers[0];
        let used = driver.used();
        used.iter()
            .map(|(head, len)| {
                let (_, address) = rooms.iter().find(|(of, _)| of == head).unwrap();
                driver.read(*address, *len as usize)
            })
            .collect()
    }

    /// Gives the device a buffer of `len` bytes for packets. Returns its head and address.
    pub(super) fn room(&mut self, len: u32) -> (u16, u64) {
        let room = self.drivers[0].room(len);
        (self.drivers[0].offer(&[room]), room.address)
    }

    pub(super) fn command(&mut self, bytes: &[u8]) -> u8 {
        let control = self.net.control_index;
        let driver = &mut self.drivers[control];
        let (command, ack) = (driver.buffer(bytes), driver.room(1));
        driver.write(ack.address, &[0xee]);
        let head = driver.offer(&[command, ack]);
        self.net.process_queue(control).unwrap();
        let driver = &mut self.drivers[control];
        assert_eq!(driver.used(), [(head, 1)]);
        driver.read(ack.address, 1)[0]
    }
}

/// A packet of `len` bytes with its header, each different from the next.
pub(super) fn packet(len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len)
        .map(|at| [at.to_le_bytes()[0], 7][usize::from(at % 5 == 0)])
        .collect();
    packet[..HEADER_BYTES].fill(0);
    packet
}
