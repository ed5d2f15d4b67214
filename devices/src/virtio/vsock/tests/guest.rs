//! A guest that drives the device's queues by hand.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::event_loop::{Interest, Poller};
use crate::virtio::device::VirtioDevice;
use crate::virtio::mock::{Descriptor, Driver, UPPER, activate, memory};
use crate::virtio::vsock::Vsock;
use crate::virtio::vsock::packet::{HEADER_LEN, HEADER_SIZE, HOST_CID, Header, Operation, STREAM};

pub(super) const CID: u64 = 3;
/// As Linux has them: a page less what it needs itself.
const RX_BUFFER: u32 = 3776;
const RX_BASE: u64 = 0x8_0000;
const RX_BUFFERS: u16 = 64;
const TX_BASE: u64 = UPPER;
const TX_SLOT: u64 = 0x1_1000;
const TX_SLOTS: u64 = 15;

/// A driver of the device, and the host's directory with its sockets.
pub(super) struct Guest {
    pub(super) device: Vsock,
    pub(super) rx: Driver,
    pub(super) tx: Driver,
    event: Driver,
    directory: PathBuf,
    poller: Poller,
    sent: u64,
}

/// A packet the guest got.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

impl Received {
    pub(super) fn operation(&self) -> Operation {
        Operation::from_code(self.header.op).unwrap()
    }
}

impl Guest {
    /// A guest with receive buffers.
    pub(super) fn new() -> Self {
        let mut guest = Self::starved();
        guest.offer_buffers(RX_BUFFERS);
        guest
    }

    /// A guest without.
    pub(super) fn starved() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("husk-vsock-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let socket = directory.join("v");
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let memory = memory();
        let mut guest = Self {
            device: Vsock::new(3, listener, socket).unwrap(),
            rx: Driver::in_memory(memory.clone(), 0, 256),
            tx: Driver::in_memory(memory.clone(), 1, 256),
            event: Driver::in_memory(memory, 2, 16),
            directory,
            poller: Poller::new().unwrap(),
            sent: 0,
        };
        guest.activate();
        guest
    }

    /// The driver (re)starts.
    pub(super) fn activate(&mut self) {
        let drivers = [&self.rx, &self.tx, &self.event];
        activate(&mut self.device, &drivers);
        let device = self.device.event_fd().unwrap();
        self.poller.add(device, 0, Interest::READ).unwrap();
    }

    /// The driver resets the device.
    pub(super) fn reset(&mut self) {
        let device = self.device.event_fd().unwrap();
        self.poller.remove(device).unwrap();
        self.device.reset();
        assert_eq!(self.device.event_fd(), None);
        for (index, driver) in [(0, &mut self.rx), (1, &mut self.tx)] {
            let size = usize::try_from(driver.used_ring() + 0x1000 - driver.descriptors()).unwrap();
            driver.write(driver.descriptors(), &vec![0; size]);
            *driver = Driver::in_memory(driver.memory.clone(), index, 256);
        }
    }

    pub(super) fn offer_buffers(&mut self, count: u16) {
        for index in 0..count {
            let address = RX_BASE + u64::from(index) * 0x1000;
            let buffer = Descriptor::writable(address, RX_BUFFER);
            self.rx.set_descriptor(index, buffer);
            self.rx.make_available(index);
        }
        self.device.process_queue(0).unwrap();
    }

    /// Lets the device work until nothing wants its attention: one that spins never gets there.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            if self.rx.kick.read().is_ok() {
                self.device.process_queue(0).unwrap();
                busy = true;
            }
            if self.tx.kick.read().is_ok() {
                self.device.process_queue(1).unwrap();
                busy = true;
            }
            let mut ready = Vec::new();
            self.poller.wait(0, &mut ready).unwrap();
            if !ready.is_empty() {
                self.device.process_events().unwrap();
                busy = true;
            }
            if !busy {
                return;
            }
        }
        panic!("the device spins");
    }

    /// Sends a packet as it is, and lets the device work.
    pub(super) fn send(&mut self, header: &Header, payload: &[u8]) {
        self.queue(header, payload);
        self.device.process_queue(1).unwrap();
        self.run();
    }

    /// Puts a packet into the transmit queue.
    pub(super) fn queue(&mut self, header: &Header, payload: &[u8]) {
        let address = TX_BASE + self.sent % TX_SLOTS * TX_SLOT;
        self.sent += 1;
        self.tx.write(address, &header.bytes());
        let mut chain = vec![Descriptor::readable(address, HEADER_SIZE)];
        if !payload.is_empty() {
            let address = address + HEADER_LEN as u64;
            self.tx.write(address, payload);
            let len = u32::try_from(payload.len()).unwrap();
            chain.push(Descriptor::readable(address, len));
        }
        self.tx.offer(&chain);
    }

    /// What the device sent since the last call; the buffers are offered again.
    pub(super) fn receive(&mut self) -> Vec<Received> {
        let received = self.take();
        self.device.process_queue(0).unwrap();
        received
    }

    fn take(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        for (head, len) in self.rx.used() {
            let address = RX_BASE + u64::from(head) * 0x1000;
            let bytes = self.rx.read(address, len as usize);
            let (header, payload) = bytes.split_first_chunk().unwrap();
            let header = Header::parse(header);
            assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
            assert_eq!(header.len as usize, payload.len());
            received.push(Received {
                header,
                payload: payload.to_vec(),
            });
            self.rx.make_available(head);
        }
        received
    }

    /// The one packet the device sent.
    pub(super) fn receive_one(&mut self, operation: Operation) -> Header {
        self.run();
        let received = self.receive();
        assert_eq!(received.len(), 1, "{received:?}");
        assert_eq!(received[0].operation(), operation);
        received[0].header
    }

    pub(super) fn receive_none(&mut self) {
        self.run();
        let received = self.receive();
        assert!(received.is_empty(), "{received:?}");
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        counters.iter().find(|(key, _)| *key == name).unwrap().1
    }

    /// A client on the host that has asked for `port`.
    pub(super) fn connect(&mut self, port: u32) -> UnixStream {
        let mut client = self.client();
        client
            .write_all(format!("CONNECT {port}\n").as_bytes())
            .unwrap();
        self.run();
        client
    }

    /// A client on the host that has said nothing.
    pub(super) fn client(&self) -> UnixStream {
        UnixStream::connect(self.directory.join("v")).unwrap()
    }

    /// A service of the host.
    pub(super) fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.directory.join(format!("v_{port}"))).unwrap()
    }

    /// An open connection from a client on the host to `port`.
    pub(super) fn open(&mut self, port: u32) -> (UnixStream, Peer) {
        let mut client = self.connect(port);
        let request = self.receive_one(Operation::Request);
        assert_eq!(request.dst_port, port);
        let peer = Peer::new(port, request.src_port, request.buf_alloc);
        self.send(&peer.header(Operation::Response), &[]);
        let expected = format!("OK {}\n", request.src_port);
        assert_eq!(read(&mut client, expected.len()), expected.as_bytes());
        (client, peer)
    }

    /// An open connection from the guest's port 5000 to the host's `port`.
    pub(super) fn open_to_host(&mut self, port: u32) -> (UnixStream, Peer) {
        let service = self.listen(port);
        let mut peer = Peer::new(5000, port, 0);
        self.send(&peer.header(Operation::Request), &[]);
        peer.window = self.receive_one(Operation::Response).buf_alloc;
        let (stream, _) = service.accept().unwrap();
        (stream, peer)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// The guest's end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) guest_port: u32,
    pub(super) host_port: u32,
    /// What the host can hold.
    pub(super) window: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Peer {
    pub(super) fn new(guest_port: u32, host_port: u32, window: u32) -> Self {
        Self {
            guest_port,
            host_port,
            window,
            buf_alloc: 256 << 10,
            fwd_cnt: 0,
        }
    }

    pub(super) fn header(&self, operation: Operation) -> Header {
        Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: self.guest_port,
            dst_port: self.host_port,
            len: 0,
            socket_type: STREAM,
            op: operation.code(),
            flags: 0,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        }
    }

    pub(super) fn shutdown(&self, flags: u32) -> Header {
        Header {
            flags,
            ..self.header(Operation::Shutdown)
        }
    }

    pub(super) fn data(&self, payload: &[u8]) -> Header {
        Header {
            len: u32::try_from(payload.len()).unwrap(),
            ..self.header(Operation::Data)
        }
    }
}

/// Exactly `len` bytes.
pub(super) fn read(stream: &mut UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Whether the other end has closed, or shut down its sending.
pub(super) fn at_end(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let end = matches!(stream.read(&mut [0]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    end
}
