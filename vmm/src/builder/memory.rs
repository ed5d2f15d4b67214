//! Guest memory: private anonymous pages, or a memfd that other processes can map too.

use std::fs::File;
use std::{io, ptr};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use super::BuildError;
use crate::arch::ram_ranges;

const LARGE_PAGE: usize = 2 << 20;
/// What vm-memory is told of a mapping that it has not made.
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE_ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Maps `bytes` of guest memory. Pages take up host memory when they are first touched.
pub(super) fn allocate(bytes: u64, shared: bool) -> Result<GuestMemoryMmap, BuildError> {
    let ranges = ram_ranges(bytes);
    let failed = |source| BuildError::Memory { bytes, source };
    if !shared {
        return private(&ranges);
    }
    let file = memory_file(bytes).map_err(|error| BuildError::MemoryFile(error.into()))?;
    let mut offset = 0;
    let ranges: Vec<_> = ranges
        .into_iter()
        .map(|(address, len)| {
            let part = FileOffset::from_arc(file.clone(), offset);
            offset += len as u64;
            (address, len, Some(part))
        })
        .collect();
    GuestMemoryMmap::from_ranges_with_files(ranges).map_err(failed)
}

/// Anonymous memory, each range at a host address that is aligned like its guest address, so that the host can back it, and KVM
/// map it, with large pages.
fn private(ranges: &[(GuestAddress, usize)]) -> Result<GuestMemoryMmap, BuildError> {
    let regions = ranges
        .iter()
        .map(|(address, len)| {
            let failed = |source| BuildError::Mapping {
                bytes: *len,
                source,
            };
            let region = aligned(*len).map_err(failed)?;
            GuestRegionMmap::new(region, *address)
                .ok_or_else(|| failed(io::Error::other("the region wraps")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    GuestMemoryMmap::from_regions(regions).map_err(BuildError::Regions)
}

#[expect(unsafe_code, reason = "chooses the address of a mapping")]
fn aligned(len: usize) -> io::Result<MmapRegion> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), len + LARGE_PAGE, protection, flags)? };
    let skip = start.addr().next_multiple_of(LARGE_PAGE) - start.addr();
    let region = start.cast::<u8>().wrapping_add(skip);
    // SAFETY: `region..region + len` lies in the mapping just made, which nothing else knows. It stays mapped until the
    // process ends, for the region does not own it. The unused ends, a large page in all, are never touched.
    unsafe { MmapRegion::build_raw(region, len, READ_WRITE, PRIVATE_ANONYMOUS) }
        .map_err(io::Error::other)
}

/// A memfd of a size that nobody can change any more, so that no process can make the others' mappings fault.
fn memory_file(bytes: u64) -> rustix::io::Result<std::sync::Arc<File>> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("guest memory", flags)?;
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(std::sync::Arc::new(File::from(file)))
}
