//! F12: vsock packets.

use super::Case;
use crate::driver::{Descriptor, Device, Queue, VERSION_1, flag};
use crate::honest::{Request, exchange, vsock_header};
use crate::memory::Page;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RST: u16 = 3;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;

/// A port on which nothing of the host listens.
const NOBODY: u32 = 4040;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F12 request to nobody is reset",
        attack: |device| answered(device, &vsock_header(2, 3, NOBODY, REQUEST), Some(RST)),
    },
    Case {
        name: "F12 data to nobody is reset",
        attack: |device| answered(device, &vsock_header(2, 3, NOBODY, RW), Some(RST)),
    },
    Case {
        name: "F12 response to nobody is reset",
        attack: |device| answered(device, &vsock_header(2, 3, NOBODY, RESPONSE), Some(RST)),
    },
    Case {
        name: "F12 forged source",
        attack: |device| answered(device, &vsock_header(2, 99, NOBODY, REQUEST), None),
    },
    Case {
        name: "F12 forged source of the host",
        attack: |device| answered(device, &vsock_header(2, 2, NOBODY, REQUEST), None),
    },
    Case {
        name: "F12 destination that is not the host",
        attack: |device| answered(device, &vsock_header(77, 3, NOBODY, RST), None),
    },
    Case {
        name: "F12 unknown operation",
        attack: |device| sent(device, &vsock_header(2, 3, NOBODY, 0x4444)),
    },
    Case {
        name: "F12 unknown socket type",
        attack: |device| sent(device, &changed(28, &[9, 0])),
    },
    Case {
        name: "F12 length beyond the payload",
        attack: |device| sent(device, &changed(24, &u32::MAX.to_le_bytes())),
    },
    Case {
        name: "F12 header of 20 bytes",
        attack: |device| sent(device, &vsock_header(2, 3, NOBODY, RW)[..20]),
    },
    Case {
        name: "F12 empty packet",
        attack: |device| sent(device, &[0]),
    },
    Case {
        name: "F12 credit of nobody",
        attack: |device| sent(device, &vsock_header(2, 3, NOBODY, CREDIT_UPDATE)),
    },
    Case {
        name: "F12 buffer of 4 GiB and counters that lie",
        attack: |device| sent(device, &changed(36, &[0xff; 8])),
    },
    Case {
        name: "F12 flood of requests with nobody receiving",
        attack: flood,
    },
];

/// A data packet with some bytes changed.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = vsock_header(2, 3, NOBODY, RW);
    header[at..at + bytes.len()].copy_from_slice(bytes);
    header
}

/// Sends a packet on the transmit queue.
fn transmit(device: &Device, queues: &mut [Queue], readable: Vec<u8>) -> Result<(), String> {
    let request = Request {
        queue: 1,
        readable,
        writable: 0,
    };
    exchange(device, queues, &request).map(drop)
}

fn sent(device: &Device, packet: &[u8]) -> Result<(), String> {
    let mut queues = device.start(VERSION_1)?;
    transmit(device, &mut queues, packet.to_vec())?;
    device.reset()
}

/// Sends a packet with a receive buffer ready, and compares the operation of what comes back.
fn answered(device: &Device, packet: &[u8], wanted: Option<u16>) -> Result<(), String> {
    let mut queues = device.start(VERSION_1)?;
    let page = Page::new()?;
    let receive = queues.first_mut().ok_or("no queue")?;
    receive.describe(
        0,
        Descriptor {
            address: page.physical(),
            len: 4096,
            flags: flag::WRITE,
            next: 0,
        },
    );
    receive.offer(0);
    device.kick(receive);
    transmit(device, &mut queues, packet.to_vec())?;
    let receive = queues.first_mut().ok_or("no queue")?;
    let mut came = None;
    for _ in 0..50 {
        if receive.completed().is_some() {
            let operation = page.read(30, 2);
            came = Some(u16::from_le_bytes([operation[0], operation[1]]));
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    device.reset()?;
    if came == wanted {
        Ok(())
    } else {
        Err(format!("came {came:?}, wanted {wanted:?}"))
    }
}

/// Two thousand connection requests from different ports while the receive queue stays empty: replies pile up nowhere.
fn flood(device: &Device) -> Result<(), String> {
    let mut queues = device.start(VERSION_1)?;
    for port in 0..2000_u32 {
        let mut readable = vsock_header(2, 3, NOBODY, REQUEST);
        readable[16..20].copy_from_slice(&(port + 10_000).to_le_bytes());
        if transmit(device, &mut queues, readable).is_err() {
            // A device that stops taking requests until its replies can be delivered is bounded, too.
            break;
        }
    }
    device.reset()
}
