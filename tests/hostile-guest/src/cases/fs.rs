//! F13: FUSE requests (Linux `include/uapi/linux/fuse.h`).

use super::Case;
use crate::driver::{Device, VERSION_1};
use crate::honest::{Request, exchange, fuse, fuse_init};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const BATCH_FORGET: u32 = 42;

const ROOT: u64 = 1;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "F13 unknown opcode",
        attack: |device| refused(device, fuse(9999, 7, ROOT, &[])),
    },
    Case {
        name: "F13 opcode of all ones",
        attack: |device| refused(device, fuse(u32::MAX, 7, ROOT, &[])),
    },
    Case {
        name: "F13 length larger than the request",
        attack: |device| lied(device, u32::MAX),
    },
    Case {
        name: "F13 length of zero",
        attack: |device| lied(device, 0),
    },
    Case {
        name: "F13 length smaller than the header",
        attack: |device| lied(device, 39),
    },
    Case {
        name: "F13 half a header",
        attack: |device| survived(device, fuse(GETATTR, 7, ROOT, &[0; 16])[..20].to_vec(), 256),
    },
    Case {
        name: "F13 no room for a reply",
        attack: |device| survived(device, fuse(GETATTR, 7, ROOT, &[0; 16]), 0),
    },
    Case {
        name: "F13 one byte of room for a reply",
        attack: |device| survived(device, fuse(GETATTR, 7, ROOT, &[0; 16]), 1),
    },
    Case {
        name: "F13 request before INIT",
        attack: before_init,
    },
    Case {
        name: "F13 INIT twice",
        attack: |device| survived(device, fuse_init(8, 7, 38), 256),
    },
    Case {
        name: "F13 INIT of an old version",
        attack: |device| old_init(device, 6),
    },
    Case {
        name: "F13 INIT of a future version",
        attack: |device| old_init(device, 99),
    },
    Case {
        name: "F13 names that lead out, in LOOKUP",
        attack: |device| names(device, |name| fuse(LOOKUP, 7, ROOT, name)),
    },
    Case {
        name: "F13 names that lead out, in MKNOD",
        attack: |device| names(device, |name| fuse(MKNOD, 7, ROOT, &with([0; 16], name))),
    },
    Case {
        name: "F13 names that lead out, in MKDIR",
        attack: |device| names(device, |name| fuse(MKDIR, 7, ROOT, &with([0; 8], name))),
    },
    Case {
        name: "F13 names that lead out, in CREATE",
        attack: |device| names(device, |name| fuse(CREATE, 7, ROOT, &with([0; 16], name))),
    },
    Case {
        name: "F13 names that lead out, in UNLINK",
        attack: |device| names(device, |name| fuse(UNLINK, 7, ROOT, name)),
    },
    Case {
        name: "F13 names that lead out, in RMDIR",
        attack: |device| names(device, |name| fuse(RMDIR, 7, ROOT, name)),
    },
    Case {
        name: "F13 names that lead out, in SYMLINK",
        attack: |device| {
            names(device, |name| {
                fuse(SYMLINK, 7, ROOT, &with(*b"", &[name, b"to\0"].concat()))
            })
        },
    },
    Case {
        name: "F13 names that lead out, in LINK",
        attack: |device| {
            names(device, |name| {
                fuse(LINK, 7, ROOT, &with(ROOT.to_le_bytes(), name))
            })
        },
    },
    Case {
        name: "F13 names that lead out, in RENAME",
        attack: |device| {
            names(device, |name| {
                fuse(
                    RENAME,
                    7,
                    ROOT,
                    &with(ROOT.to_le_bytes(), &[b"from\0", name].concat()),
                )
            })
        },
    },
    Case {
        name: "F13 unknown node",
        attack: |device| refused(device, fuse(GETATTR, 7, 0xdead_beef, &[0; 16])),
    },
    Case {
        name: "F13 node of all ones",
        attack: |device| refused(device, fuse(OPEN, 7, u64::MAX, &[0; 8])),
    },
    Case {
        name: "F13 READ of 4 GiB from no handle",
        attack: |device| refused(device, fuse(READ, 7, ROOT, &io(u64::MAX, u32::MAX))),
    },
    Case {
        name: "F13 READDIR of 4 GiB from no handle",
        attack: |device| refused(device, fuse(READDIR, 7, ROOT, &io(u64::MAX, u32::MAX))),
    },
    Case {
        name: "F13 READDIR of 4 GiB from the root",
        attack: readdir,
    },
    Case {
        name: "F13 WRITE of more than there is",
        attack: |device| refused(device, fuse(WRITE, 7, ROOT, &io(u64::MAX, u32::MAX))),
    },
    Case {
        name: "F13 GETXATTR of 4 GiB",
        attack: |device| {
            refused(
                device,
                fuse(GETXATTR, 7, ROOT, &with([0xff; 8], b"user.x\0")),
            )
        },
    },
    Case {
        name: "F13 SETXATTR longer than the request",
        attack: |device| {
            refused(
                device,
                fuse(
                    SETXATTR,
                    7,
                    ROOT,
                    &with([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], b"user.x\0v"),
                ),
            )
        },
    },
    Case {
        name: "F13 FORGET of the root, and more than all of it",
        attack: forget,
    },
    Case {
        name: "F13 BATCH_FORGET of 4 G nodes",
        attack: |device| survived(device, fuse(BATCH_FORGET, 7, 0, &[0xff; 8]), 0),
    },
    Case {
        name: "F13 body cut short in every request",
        attack: short,
    },
];

/// A fixed part, then a name.
fn with<const N: usize>(fixed: [u8; N], name: &[u8]) -> Vec<u8> {
    let mut body = fixed.to_vec();
    body.extend(name);
    body
}

/// `struct fuse_read_in`: handle, offset, size and more.
fn io(handle: u64, size: u32) -> Vec<u8> {
    let mut body = handle.to_le_bytes().to_vec();
    body.extend(0_u64.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.extend([0; 20]);
    body
}

/// Sends requests after an INIT; returns the reply to the last: the error number, if there was a reply.
fn send(
    device: &Device,
    init: Option<Vec<u8>>,
    requests: &[(Vec<u8>, u32)],
) -> Result<Option<i32>, String> {
    let mut queues = device.start(VERSION_1)?;
    let init = init.map(|init| (init, 256));
    let mut error = None;
    for (readable, writable) in init.iter().chain(requests) {
        let request = Request {
            queue: 1,
            readable: readable.clone(),
            writable: *writable,
        };
        let (written, page) = exchange(device, &mut queues, &request)?;
        let bytes = page.read(4, 4);
        error =
            (written >= 16).then(|| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    }
    device.reset()?;
    Ok(error)
}

/// The request must get an error for a reply.
fn refused(device: &Device, request: Vec<u8>) -> Result<(), String> {
    match send(device, Some(fuse_init(1, 7, 38)), &[(request, 4000)])? {
        Some(..0) => Ok(()),
        other => Err(format!("reply {other:?}")),
    }
}

/// The request may be answered in any way, or be dropped after a reset; the device only may not break.
fn survived(device: &Device, request: Vec<u8>, writable: u32) -> Result<(), String> {
    match send(device, Some(fuse_init(1, 7, 38)), &[(request, writable)]) {
        Ok(_) => Ok(()),
        Err(_) => device.reset(),
    }
}

fn lied(device: &Device, len: u32) -> Result<(), String> {
    let mut request = fuse(GETATTR, 7, ROOT, &[0; 16]);
    request[..4].copy_from_slice(&len.to_le_bytes());
    survived(device, request, 256)
}

fn before_init(device: &Device) -> Result<(), String> {
    match send(device, None, &[(fuse(GETATTR, 7, ROOT, &[0; 16]), 256)])? {
        Some(0) => Err("answered as if initialised".to_owned()),
        _ => Ok(()),
    }
}

fn old_init(device: &Device, major: u32) -> Result<(), String> {
    match send(device, Some(fuse_init(1, major, 0)), &[]) {
        Ok(_) => Ok(()),
        Err(_) => device.reset(),
    }
}

/// No name that is not one component may succeed.
fn names(device: &Device, request: fn(&[u8]) -> Vec<u8>) -> Result<(), String> {
    let long = [&[b'n'; 256][..], b"\0"].concat();
    for name in [
        &b"..\0"[..],
        b".\0",
        b"\0",
        b"/\0",
        b"a/b\0",
        b"../x\0",
        b"/etc/passwd\0",
        b"no end",
        b"",
        &long,
    ] {
        refused(device, request(name))
            .map_err(|why| format!("{:?}: {why}", String::from_utf8_lossy(name)))?;
    }
    Ok(())
}

/// Opens the root and asks for more entries than the reply has room for.
fn readdir(device: &Device) -> Result<(), String> {
    let open = (fuse(OPENDIR, 7, ROOT, &[0; 8]), 256);
    for handle in 0..4 {
        let read = (fuse(READDIR, 8, ROOT, &io(handle, u32::MAX)), 4000);
        send(device, Some(fuse_init(1, 7, 38)), &[open.clone(), read])?;
    }
    Ok(())
}

fn forget(device: &Device) -> Result<(), String> {
    let forgets = (0..3).map(|_| (fuse(FORGET, 7, ROOT, &u64::MAX.to_le_bytes()), 0));
    let mut requests: Vec<_> = forgets.collect();
    requests.push((fuse(FORGET, 7, 0xdead_beef, &1_u64.to_le_bytes()), 0));
    requests.push((fuse(GETATTR, 8, ROOT, &[0; 16]), 256));
    match send(device, Some(fuse_init(1, 7, 38)), &requests)? {
        Some(0) => Ok(()),
        other => Err(format!("the root is gone: {other:?}")),
    }
}

/// A header that promises a body, without one.
fn short(device: &Device) -> Result<(), String> {
    for opcode in 1..52 {
        survived(device, fuse(opcode, 7, ROOT, &[]), 256)?;
        survived(device, fuse(opcode, 7, ROOT, &[0; 4]), 256)?;
    }
    Ok(())
}
