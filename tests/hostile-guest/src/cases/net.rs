//! F41: network packets, buffers and commands.

mod answers;

use super::Case;
use crate::driver::{Descriptor, Device, VERSION_1, flag};
use crate::honest::{Request, UNWRITTEN, exchange, net_packet};
use crate::memory::{PAGE, Page};

/// `VIRTIO_NET_F_CSUM` and the features that need it.
const CSUM: u64 = 1;
const HOST_TSO4: u64 = 1 << 11;

/// Header fields (virtio 1.2, 5.1.6): flags and type, then header length, segment size, checksum's start and offset.
const NEEDS_CSUM: u8 = 1;
const TCPV4: u8 = 1;
const UDP: u8 = 3;
const TCPV6: u8 = 4;

/// Queues of a device with one pair.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F41 header without a frame",
        attack: |device| sent(device, net_packet(60)[..12].to_vec()),
    },
    Case {
        name: "F41 header of 11 bytes",
        attack: |device| sent(device, vec![0; 11]),
    },
    Case {
        name: "F41 packet of one byte",
        attack: |device| sent(device, vec![0xff]),
    },
    Case {
        name: "F41 frame of 13 bytes",
        attack: |device| sent(device, net_packet(13)),
    },
    Case {
        name: "F41 frame of an Ethernet header only",
        attack: |device| sent(device, net_packet(14)),
    },
    Case {
        name: "F41 frame of 256 KiB",
        attack: |device| long(device, 256 << 10),
    },
    Case {
        name: "F41 frame of 65,554 bytes",
        attack: |device| long(device, 65_554 + 12),
    },
    Case {
        name: "F41 frame of 65,553 bytes, far above the MTU",
        attack: |device| long(device, 65_553 + 12),
    },
    Case {
        name: "F41 all flags",
        attack: |device| header(device, 0xff, 0, [0; 4], u64::MAX),
    },
    Case {
        name: "F41 flags that are the device's to set",
        attack: |device| header(device, 2 | 4, 0, [0; 4], u64::MAX),
    },
    Case {
        name: "F41 unknown segmentation",
        attack: |device| header(device, NEEDS_CSUM, 0x7f, [54, 1448, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 congestion mark without segmentation",
        attack: |device| header(device, NEEDS_CSUM, 0x80, [54, 1448, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 UDP fragmentation, which is not offered",
        attack: |device| header(device, NEEDS_CSUM, UDP, [42, 1448, 34, 6], u64::MAX),
    },
    Case {
        name: "F41 segments of no bytes",
        attack: |device| header(device, NEEDS_CSUM, TCPV4, [54, 0, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 segments of one byte",
        attack: |device| header(device, NEEDS_CSUM, TCPV4, [54, 1, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 segments larger than the frame",
        attack: |device| header(device, NEEDS_CSUM, TCPV4, [54, 0xffff, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 segmentation without checksum",
        attack: |device| header(device, 0, TCPV4, [54, 1448, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 IPv6 segments in a frame that is not",
        attack: |device| header(device, NEEDS_CSUM, TCPV6, [54, 1448, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 header length of 65,535",
        attack: |device| header(device, NEEDS_CSUM, TCPV4, [0xffff, 1448, 34, 16], u64::MAX),
    },
    Case {
        name: "F41 segmentation that was not agreed on",
        attack: |device| header(device, NEEDS_CSUM, TCPV4, [54, 1448, 34, 16], !HOST_TSO4),
    },
    Case {
        name: "F41 checksum that was not agreed on",
        attack: |device| header(device, NEEDS_CSUM, 0, [0, 0, 34, 16], !CSUM),
    },
    Case {
        name: "F41 checksum behind the frame",
        attack: |device| header(device, NEEDS_CSUM, 0, [0, 0, 59, 0], u64::MAX),
    },
    Case {
        name: "F41 checksum whose place wraps",
        attack: |device| header(device, NEEDS_CSUM, 0, [0, 0, 0xffff, 0xffff], u64::MAX),
    },
    Case {
        name: "F41 checksum over the Ethernet header",
        attack: |device| header(device, NEEDS_CSUM, 0, [0, 0, 0, 0], u64::MAX),
    },
    Case {
        name: "F41 transmit buffer that is writable",
        attack: |device| transmitted(device, Vec::new(), 100),
    },
    Case {
        name: "F41 frame with a writable end",
        attack: |device| transmitted(device, net_packet(60), 100),
    },
    Case {
        name: "F41 transmit doorbell a thousand times",
        attack: doorbells,
    },
    Case {
        name: "F41 the host answers into one buffer",
        attack: |device| answers::answered(device, &[4096]),
    },
    Case {
        name: "F41 the host answers behind buffers of one and 11 bytes",
        attack: |device| answers::answered(device, &[1, 11, 4096]),
    },
    Case {
        name: "F41 the host answers into buffers of 12 bytes",
        attack: |device| answers::answered(device, &[12; 12]),
    },
    Case {
        name: "F41 the host answers behind a buffer outside memory",
        attack: answers::outside,
    },
    Case {
        name: "F41 receive buffer that is readable",
        attack: answers::readable,
    },
    Case {
        name: "F41 answers without buffers, then buffers",
        attack: answers::starving,
    },
    Case {
        name: "F41 reset with an answer under way",
        attack: answers::forgotten,
    },
    Case {
        name: "F41 empty command",
        attack: |device| refused(device, &[]),
    },
    Case {
        name: "F41 unknown class of command",
        attack: |device| refused(device, &[0x77, 0]),
    },
    Case {
        name: "F41 promiscuity, which is not offered",
        attack: |device| refused(device, &[0, 0, 1]),
    },
    Case {
        name: "F41 no pairs",
        attack: |device| refused(device, &[4, 0, 0, 0]),
    },
    Case {
        name: "F41 65,535 pairs",
        attack: |device| refused(device, &[4, 0, 0xff, 0xff]),
    },
    Case {
        name: "F41 half a number of pairs",
        attack: |device| refused(device, &[4, 0, 1]),
    },
    Case {
        name: "F41 all offloads",
        attack: |device| refused(device, &[5, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
    },
    Case {
        name: "F41 command of 4 KiB",
        attack: |device| refused(device, &[4; PAGE]),
    },
    Case {
        name: "F41 command whose answer is readable",
        attack: |device| command(device, &[4, 0, 0, 0], 0).map(drop),
    },
    Case {
        name: "F41 configuration is written",
        attack: configuration,
    },
];

/// Sends a packet with all features; the device must take it, whatever becomes of it.
fn sent(device: &Device, packet: Vec<u8>) -> Result<(), String> {
    transmitted(device, packet, 0)
}

fn transmitted(device: &Device, readable: Vec<u8>, writable: u32) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    let request = Request {
        queue: TRANSMIT,
        readable,
        writable,
    };
    let (written, page) = exchange(device, &mut queues, &request)?;
    device.reset()?;
    match written == 0 && page.read(0, PAGE) == vec![UNWRITTEN; PAGE] {
        true => Ok(()),
        false => Err(format!("{written} bytes written to a transmit buffer")),
    }
}

/// Sends a frame of TCP over IPv4 with this header.
fn header(
    device: &Device,
    flags: u8,
    segmentation: u8,
    words: [u16; 4],
    features: u64,
) -> Result<(), String> {
    let mut packet = vec![flags, segmentation];
    packet.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    packet.extend([0, 0]);
    packet.extend(tcp_frame());
    let mut queues = device.start(features)?;
    let request = Request {
        queue: TRANSMIT,
        readable: packet,
        writable: 0,
    };
    exchange(device, &mut queues, &request)?;
    device.reset()
}

/// 60 bytes: Ethernet, IPv4 from 10.9.0.2 to 10.9.0.1, TCP.
fn tcp_frame() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend([
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1,
    ]);
    frame.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
    ]);
    frame.resize(60, 0);
    frame
}

/// Sends so many bytes of memory as one descriptor: the first 12 are read as header, and are whatever is there.
fn long(device: &Device, len: u32) -> Result<(), String> {
    // Low memory that the kernel has for itself: present, and only read.
    const PRESENT: u64 = 0x10_0000;
    let mut queues = device.start(u64::MAX)?;
    let head = Page::new()?;
    head.write(0, &net_packet(60));
    let queue = queues.get_mut(TRANSMIT).ok_or("no queue")?;
    let descriptor = |address, len, flags| Descriptor {
        address,
        len,
        flags,
        next: 1,
    };
    queue.describe(0, descriptor(head.physical(), 60, flag::NEXT));
    queue.describe(1, descriptor(PRESENT, len - 60, 0));
    queue.offer(0);
    device.kick(queue);
    let outcome = queue.wait();
    device.reset()?;
    outcome.map(drop)
}

fn doorbells(device: &Device) -> Result<(), String> {
    let queues = device.start(VERSION_1)?;
    let queue = queues.get(TRANSMIT).ok_or("no queue")?;
    for _ in 0..1000 {
        device.kick(queue);
    }
    device.reset()
}

/// Sends a command; returns its answer, if there is one.
fn command(device: &Device, readable: &[u8], writable: u32) -> Result<Option<u8>, String> {
    let mut queues = device.start(u64::MAX)?;
    let request = Request {
        queue: CONTROL,
        readable: readable.to_vec(),
        writable,
    };
    let (written, page) = exchange(device, &mut queues, &request)?;
    device.reset()?;
    Ok((written > 0).then(|| page.read(0, 1)[0]))
}

fn refused(device: &Device, bytes: &[u8]) -> Result<(), String> {
    match command(device, bytes, 1)? {
        Some(1) => Ok(()),
        other => Err(format!("answer {other:?}")),
    }
}

fn configuration(device: &Device) -> Result<(), String> {
    let specific = device.specific.ok_or("no configuration")?;
    let before: Vec<_> = (0..12)
        .map(|at| device.bar.read(specific + at, 1))
        .collect();
    for at in 0..12 {
        device.bar.write(specific + at, 1, 0xff);
    }
    let after: Vec<_> = (0..12)
        .map(|at| device.bar.read(specific + at, 1))
        .collect();
    match before == after {
        true => Ok(()),
        false => Err(format!("{before:?} became {after:?}")),
    }
}
