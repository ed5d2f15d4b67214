//! Honest requests: after each attack, the device must still carry one out.

use crate::driver::{Descriptor, Device, Queue, VERSION_1, flag};
use crate::memory::{PAGE, Page};

/// What a buffer holds that the device has not written: no status byte and no FUSE error looks like it.
pub(crate) const UNWRITTEN: u8 = 0xee;

/// A chain of buffers: to read, then to write.
pub(crate) struct Request {
    /// Which queue takes it.
    pub(crate) queue: usize,
    pub(crate) readable: Vec<u8>,
    pub(crate) writable: u32,
}

impl Request {
    /// The simplest request that a device of this kind answers.
    pub(crate) fn of(device: &Device) -> Self {
        match device.name() {
            "blk" => Self {
                queue: 0,
                readable: blk_header(0, 0),
                writable: 513,
            },
            "console" => Self {
                queue: 1,
                readable: b".".to_vec(),
                writable: 0,
            },
            "net" => Self {
                queue: 1,
                readable: net_packet(60),
                writable: 0,
            },
            "vsock" => Self {
                queue: 1,
                readable: vsock_header(2, 3, 9999, 3),
                writable: 0,
            },
            "fs" => Self {
                queue: 1,
                readable: fuse_init(1, 7, 38),
                writable: 256,
            },
            _ => Self {
                queue: 0,
                readable: Vec::new(),
                writable: 64,
            },
        }
    }
}

/// Type and sector of a block request (virtio 1.2, 5.2.6).
pub(crate) fn blk_header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(0_u32.to_le_bytes());
    header.extend(sector.to_le_bytes());
    header
}

/// A header of zeroes and a frame of `len` bytes for everybody, of a type that nobody knows (virtio 1.2, 5.1.6).
pub(crate) fn net_packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend([0xff; 6]);
    packet.extend([2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    packet.resize(12 + len, 0);
    packet
}

/// A packet header without payload (virtio 1.2, 5.10.6).
pub(crate) fn vsock_header(to_cid: u64, from_cid: u64, to_port: u32, operation: u16) -> Vec<u8> {
    let mut header = from_cid.to_le_bytes().to_vec();
    header.extend(to_cid.to_le_bytes());
    header.extend(4321_u32.to_le_bytes());
    header.extend(to_port.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    header.extend(1_u16.to_le_bytes());
    header.extend(operation.to_le_bytes());
    header.extend([0; 4]);
    header.extend(65536_u32.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    header
}

/// A FUSE request: header and body, whose length is filled in.
pub(crate) fn fuse(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = u32::try_from(40 + body.len())
        .unwrap_or(0)
        .to_le_bytes()
        .to_vec();
    request.extend(opcode.to_le_bytes());
    request.extend(unique.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.extend([0; 16]);
    request.extend(body);
    request
}

/// `FUSE_INIT`.
pub(crate) fn fuse_init(unique: u64, major: u32, minor: u32) -> Vec<u8> {
    let mut body = major.to_le_bytes().to_vec();
    body.extend(minor.to_le_bytes());
    body.extend(0x2_0000_u32.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    body.extend([0; 48]);
    fuse(26, unique, 0, &body)
}

/// Resets the device, starts it and has it answer an honest request.
pub(crate) fn works(device: &Device) -> Result<(), String> {
    let mut queues = device.start(VERSION_1)?;
    answers(device, &mut queues)
}

/// Has a started device answer an honest request.
pub(crate) fn answers(device: &Device, queues: &mut [Queue]) -> Result<(), String> {
    let request = Request::of(device);
    let (written, _) = exchange(device, queues, &request)?;
    let wanted = match device.name() {
        "blk" => request.writable,
        "fs" => 16,
        "rng" => 1,
        _ => 0,
    };
    if written >= wanted {
        Ok(())
    } else {
        Err(format!("honest request: {written} bytes, wanted {wanted}"))
    }
}

/// Sends a request; returns how many bytes the device says it wrote, and the page it wrote them to.
pub(crate) fn exchange(
    device: &Device,
    queues: &mut [Queue],
    request: &Request,
) -> Result<(u32, Page), String> {
    let (input, output) = (Page::new()?, Page::new()?);
    input.write(0, &request.readable);
    output.write(0, &[UNWRITTEN; PAGE]);
    let queue = queues.get_mut(request.queue).ok_or("no such queue")?;
    let len = u32::try_from(request.readable.len()).unwrap_or(0);
    let last = Descriptor {
        address: output.physical(),
        len: request.writable,
        flags: flag::WRITE,
        next: 0,
    };
    if len == 0 {
        queue.describe(0, last);
    } else {
        let more = if request.writable > 0 { flag::NEXT } else { 0 };
        queue.describe(
            0,
            Descriptor {
                address: input.physical(),
                len,
                flags: more,
                next: 1,
            },
        );
        queue.describe(1, last);
    }
    queue.offer(0);
    device.kick(queue);
    let outcome = queue.wait();
    if outcome.is_err() {
        // The device may still use the pages: it must forget them before they go.
        device.reset()?;
    }
    outcome.map(|(_, written)| (written, output))
}
