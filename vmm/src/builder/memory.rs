//! Guest memory: private anonymous pages, or a memfd that other processes can map too.

use std::fs::File;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{FileOffset, GuestMemoryMmap};

use super::BuildError;
use crate::arch::ram_ranges;

/// Maps `bytes` of guest memory. Pages take up host memory when they are first touched.
pub(super) fn allocate(bytes: u64, shared: bool) -> Result<GuestMemoryMmap, BuildError> {
    let ranges = ram_ranges(bytes);
    let failed = |source| BuildError::Memory { bytes, source };
    if !shared {
        return GuestMemoryMmap::from_ranges(&ranges).map_err(failed);
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

/// A memfd of a size that nobody can change any more, so that no process can make the others' mappings fault.
fn memory_file(bytes: u64) -> rustix::io::Result<std::sync::Arc<File>> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("guest memory", flags)?;
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(std::sync::Arc::new(File::from(file)))
}
