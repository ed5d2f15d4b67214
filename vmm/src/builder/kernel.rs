//! Puts kernel and initrd into guest memory.
//!
//! Whole pages are mapped copy-on-write from the page cache over guest memory: sandboxes share what they do not change, and
//! nothing is read that the guest does not touch. What pages cannot express is copied: the ragged ends, files whose offsets
//! do not match their addresses (bzImage), and everything when guest memory is shared with other processes, which would not
//! see private mappings.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::mm::{MapFlags, ProtFlags, mmap};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use super::BuildError;
use crate::arch::Segment;
use crate::config::VmSpec;

const PAGE: u64 = 0x1000;
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Loads what `spec` boots.
pub(super) fn load(memory: &GuestMemoryMmap, spec: &VmSpec) -> Result<(), BuildError> {
    let failed = |what| move |source| BuildError::Load { what, source };
    let share = !spec.shared_memory;
    for segment in &spec.image.segments {
        place(memory, &spec.kernel, segment, share).map_err(failed("kernel"))?;
    }
    if let Some(initrd) = &spec.initrd {
        let segment = Segment {
            offset: 0,
            len: initrd.size,
            address: initrd.address,
            memory: initrd.size,
        };
        place(memory, &initrd.file, &segment, share).map_err(failed("initrd"))?;
    }
    Ok(())
}

/// Puts the file's part of `segment` at its address. Guest memory is zero already, so the rest of it is too.
fn place(memory: &GuestMemoryMmap, file: &File, segment: &Segment, share: bool) -> io::Result<()> {
    let Segment {
        offset,
        len,
        address,
        ..
    } = *segment;
    let aligned = address % PAGE == 0 && offset % PAGE == 0;
    let mapped = if share && aligned {
        len - len % PAGE
    } else {
        0
    };
    if mapped > 0 {
        map(memory, file, offset, address, mapped)?;
    }
    copy(
        memory,
        file,
        offset + mapped,
        address + mapped,
        len - mapped,
    )
}

#[expect(unsafe_code, reason = "replaces a part of guest memory's mapping")]
fn map(
    memory: &GuestMemoryMmap,
    file: &File,
    offset: u64,
    address: u64,
    len: u64,
) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let slice = memory
        .get_slice(GuestAddress(address), len)
        .map_err(io::Error::other)?;
    let host = slice.ptr_guard_mut().as_ptr();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: `host..host + len` is a page-aligned part of the guest memory mapping, which stays owned by `memory` (it is
    // unmapped as a whole), and to which no Rust reference exists.
    unsafe { mmap(host.cast(), len, protection, flags, file.as_fd(), offset)? };
    Ok(())
}

fn copy(
    memory: &GuestMemoryMmap,
    file: &File,
    mut offset: u64,
    mut address: u64,
    mut len: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
    while len > 0 {
        let count = buffer.len().min(usize::try_from(len).unwrap_or(CHUNK));
        let chunk = &mut buffer[..count];
        file.read_exact_at(chunk, offset)?;
        memory
            .get_slice(GuestAddress(address), count)
            .map_err(io::Error::other)?
            .copy_from(chunk);
        let count = count as u64;
        (offset, address, len) = (offset + count, address + count, len - count);
    }
    Ok(())
}
