//! F11: block requests.

use super::Case;
use crate::driver::{Device, VERSION_1};
use crate::honest::{Request, UNWRITTEN, blk_header, exchange};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// `VIRTIO_BLK_F_RO`.
const READ_ONLY: u64 = 1 << 5;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F11 sector past the end",
        attack: |device| fails(device, IN, 1 << 40, &[], 513),
    },
    Case {
        name: "F11 sector at the end of its range",
        attack: |device| fails(device, IN, u64::MAX, &[], 513),
    },
    Case {
        name: "F11 sector times 512 wraps",
        attack: |device| fails(device, IN, 1 << 55, &[], 513),
    },
    Case {
        name: "F11 write past the end",
        attack: |device| fails(device, OUT, 1 << 40, &[1; 512], 1),
    },
    Case {
        name: "F11 one byte of data",
        attack: |device| fails(device, IN, 0, &[], 2),
    },
    Case {
        name: "F11 write of one byte",
        attack: |device| fails(device, OUT, 0, &[1], 1),
    },
    Case {
        name: "F11 unknown type",
        attack: |device| fails(device, 0x7777, 0, &[], 1),
    },
    Case {
        name: "F11 SCSI command",
        attack: |device| fails(device, 2, 0, &[0; 32], 1),
    },
    Case {
        name: "F11 write to a read-only disk",
        attack: read_only,
    },
    Case {
        name: "F11 status not writable",
        attack: |device| unanswered(device, &blk_header(IN, 0), 0),
    },
    Case {
        name: "F11 header of 15 bytes",
        attack: |device| unanswered(device, &blk_header(IN, 0)[..15], 513),
    },
    Case {
        name: "F11 header of one byte",
        attack: |device| unanswered(device, &[0], 1),
    },
    Case {
        name: "F11 no header",
        attack: |device| unanswered(device, &[], 513),
    },
    Case {
        name: "F11 identity into one byte",
        attack: |device| harmless(device, GET_ID, 0, &[], 2),
    },
    Case {
        name: "F11 flush with data",
        attack: |device| harmless(device, FLUSH, u64::MAX, &[0; 512], 1),
    },
    Case {
        name: "F11 discard past the end",
        attack: |device| fails(device, DISCARD, 0, &range(1 << 40, 8, 0), 1),
    },
    Case {
        name: "F11 discard that wraps",
        attack: |device| fails(device, DISCARD, 0, &range(u64::MAX, u32::MAX, 0), 1),
    },
    Case {
        name: "F11 discard of half a range",
        attack: |device| fails(device, DISCARD, 0, &range(0, 8, 0)[..9], 1),
    },
    Case {
        name: "F11 discard of nothing",
        attack: |device| fails(device, DISCARD, 0, &[], 1),
    },
    Case {
        name: "F11 discard with unknown flags",
        attack: |device| fails(device, DISCARD, 0, &range(0, 8, 0xffff_fffe), 1),
    },
    Case {
        name: "F11 zeroes past the end",
        attack: |device| fails(device, WRITE_ZEROES, 0, &range(1 << 40, 8, 0), 1),
    },
    Case {
        name: "F11 zeroes of 2 TiB",
        attack: |device| fails(device, WRITE_ZEROES, 0, &range(0, u32::MAX, 0), 1),
    },
];

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut range = sector.to_le_bytes().to_vec();
    range.extend(sectors.to_le_bytes());
    range.extend(flags.to_le_bytes());
    range
}

/// Sends a request; returns its status byte if the device wrote one.
fn send(device: &Device, readable: Vec<u8>, writable: u32) -> Result<Option<u8>, String> {
    let mut queues = device.start(VERSION_1 | device.offered())?;
    let (_, page) = exchange(
        device,
        &mut queues,
        &Request {
            queue: 0,
            readable,
            writable,
        },
    )?;
    let last = usize::try_from(writable).unwrap_or(0).checked_sub(1);
    let status = last.map(|at| page.read(at, 1)[0]);
    device.reset()?;
    Ok(status.filter(|status| *status != UNWRITTEN))
}

fn request(kind: u32, sector: u64, data: &[u8]) -> Vec<u8> {
    let mut readable = blk_header(kind, sector);
    readable.extend(data);
    readable
}

fn fails(
    device: &Device,
    kind: u32,
    sector: u64,
    data: &[u8],
    writable: u32,
) -> Result<(), String> {
    match send(device, request(kind, sector, data), writable)? {
        Some(0) => Err("succeeded".to_owned()),
        Some(1 | 2) => Ok(()),
        other => Err(format!("status {other:?}")),
    }
}

fn harmless(
    device: &Device,
    kind: u32,
    sector: u64,
    data: &[u8],
    writable: u32,
) -> Result<(), String> {
    send(device, request(kind, sector, data), writable).map(drop)
}

/// A chain that cannot be answered may be dropped or the device may ask for a reset; it only may not hang.
fn unanswered(device: &Device, readable: &[u8], writable: u32) -> Result<(), String> {
    match send(device, readable.to_vec(), writable) {
        Ok(Some(0)) => Err("succeeded".to_owned()),
        Ok(_) => Ok(()),
        Err(_) => device.reset(),
    }
}

fn read_only(device: &Device) -> Result<(), String> {
    if device.offered() & READ_ONLY == 0 {
        return Ok(());
    }
    for (kind, data) in [
        (OUT, vec![0xee; 512]),
        (WRITE_ZEROES, range(0, 8, 0)),
        (DISCARD, range(0, 8, 0)),
    ] {
        // Without accepting the feature, as CVE drivers do.
        let mut queues = device.start(VERSION_1)?;
        let readable = request(kind, 0, &data);
        let (_, page) = exchange(
            device,
            &mut queues,
            &Request {
                queue: 0,
                readable,
                writable: 1,
            },
        )?;
        if page.read(0, 1)[0] == 0 {
            return Err(format!("request {kind} succeeded"));
        }
    }
    device.reset()
}
