//! Puts kernel and initrd into guest memory: read straight into it.
//!
//! Mapping the files copy-on-write from the page cache was tried and is slower: it cuts guest memory into small pages. A 23 MB
//! vmlinux, mapped, took 3,840 page faults and 220.6 million instructions to the guest's first line; read into memory that
//! large pages can back, 202 faults and 178.5 million. Little is shared either way, since a kernel patches most of its own
//! text as it starts (4 MiB of 18 stayed shared).

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::BuildError;
use crate::config::VmSpec;

/// Loads what `spec` boots. Guest memory is zero already, so what the files do not fill is too.
pub(super) fn load(memory: &GuestMemoryMmap, spec: &VmSpec) -> Result<(), BuildError> {
    let failed = |what| move |source| BuildError::Load { what, source };
    for segment in &spec.image.segments {
        read(
            memory,
            &spec.kernel,
            segment.offset,
            segment.address,
            segment.len,
        )
        .map_err(failed("kernel"))?;
    }
    if let Some(initrd) = &spec.initrd {
        read(memory, &initrd.file, 0, initrd.address, initrd.size).map_err(failed("initrd"))?;
    }
    Ok(())
}

fn read(
    memory: &GuestMemoryMmap,
    mut file: &File,
    offset: u64,
    address: u64,
    len: u64,
) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(offset))?;
    memory
        .read_exact_volatile_from(GuestAddress(address), &mut file, len)
        .map_err(io::Error::other)
}
