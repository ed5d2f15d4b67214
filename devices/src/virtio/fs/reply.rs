//! Replies that are made or completed here, not by the server.

use std::mem::{offset_of, size_of};

use fuse_backend_rs::abi::fuse_abi::{ATTR_SUBMOUNT, Attr, Dirent, EntryOut, OutHeader};
use vm_memory::{ByteValued, Bytes, VolatileSlice};

use super::request::REPLY_HEADER;
use crate::virtio::queue::Chain;

/// Writes an error. Returns the reply's length, 0 if the guest left no room for one.
pub(super) fn error(chain: &Chain, unique: u64, errno: i32) -> u32 {
    send(chain, unique, errno.saturating_neg(), &[])
}

/// Writes a success with `body`.
pub(super) fn success(chain: &Chain, unique: u64, body: &[u8]) -> u32 {
    send(chain, unique, 0, body)
}

fn send(chain: &Chain, unique: u64, error: i32, body: &[u8]) -> u32 {
    let Ok(len) = u32::try_from(REPLY_HEADER.saturating_add(body.len())) else {
        return 0;
    };
    if chain.writable_len() < u64::from(len) {
        return 0;
    }
    let header = OutHeader { len, error, unique };
    let head = chain.write_at(0, header.as_slice());
    let rest = chain.write_at(REPLY_HEADER as u64, body);
    if head.is_ok() && rest.is_ok() { len } else { 0 }
}

/// Offsets in an `EntryOut`.
const FLAGS: usize = offset_of!(EntryOut, attr) + offset_of!(Attr, flags);
const MODE: usize = offset_of!(EntryOut, attr) + offset_of!(Attr, mode);
const ENTRY: usize = size_of::<EntryOut>();
const DIRENT: usize = size_of::<Dirent>();
/// Offset of the name's length, and length without the name, of one entry in a `READDIRPLUS` reply.
const NAME_LENGTH: usize = ENTRY + offset_of!(Dirent, namelen);
const LISTED: usize = ENTRY + DIRENT;

/// Tells the guest that the directory of a successful `LOOKUP` reply is a mount of its own, so that it gets a device number of
/// its own: inode numbers of two shares may be the same, and programs take two files with both numbers alike for one.
pub(super) fn mark_submount(chain: &Chain) {
    let reply = Written::of(chain);
    if reply.u32_at(offset_of!(OutHeader, error)) == Some(0) {
        mark_entry(chain, &reply, REPLY_HEADER);
    }
}

/// The same for each directory in the `READDIRPLUS` reply of `len` bytes. The guest may write there meanwhile: the walk is
/// bounded by `len` whatever it finds.
pub(super) fn mark_submounts(chain: &Chain, len: u32) {
    let reply = Written::of(chain);
    let mut at = REPLY_HEADER;
    while at.saturating_add(LISTED) <= len as usize {
        mark_entry(chain, &reply, at);
        let name = reply.u32_at(at.saturating_add(NAME_LENGTH));
        let padded = name.unwrap_or(u32::MAX).saturating_add(7) & !7;
        at = at.saturating_add(LISTED).saturating_add(padded as usize);
    }
}

fn mark_entry(chain: &Chain, reply: &Written<'_>, at: usize) {
    let mode = reply.u32_at(at.saturating_add(MODE));
    if mode.map(|mode| mode & libc::S_IFMT) == Some(libc::S_IFDIR) {
        let flags = at.saturating_add(FLAGS) as u64;
        // A guest that took its buffer away hears nothing of submounts.
        drop(chain.write_at(flags, ATTR_SUBMOUNT.as_slice()));
    }
}

/// What stands in the writable buffers of a chain.
struct Written<'a> {
    slices: Vec<VolatileSlice<'a>>,
}

impl<'a> Written<'a> {
    fn of(chain: &'a Chain) -> Self {
        let slices = chain.slices(chain.writable()).unwrap_or_default();
        Self { slices }
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let mut bytes = [0; 4];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte_at(at.checked_add(offset)?)?;
        }
        Some(u32::from_ne_bytes(bytes))
    }

    fn byte_at(&self, mut at: usize) -> Option<u8> {
        for slice in &self.slices {
            match at.checked_sub(slice.len()) {
                Some(beyond) => at = beyond,
                None => return slice.read_obj(at).ok(),
            }
        }
        None
    }
}
