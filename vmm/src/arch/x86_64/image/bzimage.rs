//! bzImage kernels: the setup header (Linux `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header").

use super::{ImageError, KernelImage, Protocol, Segment, Source, u16_at, u32_at, u64_at};

/// Most bytes of setup header: up to where `boot_params` has its own fields again.
const MAX_SETUP_HEADER: usize = 0x290 - 0x1f1;

const SECTOR: u64 = 512;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// Protocol 2.12, the first that says whether there is a 64-bit entry point.
const MIN_VERSION: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const HAS_ENTRY_64: u16 = 1;
/// Offset of the 64-bit entry point in the loaded part.
const ENTRY_64: u64 = 0x200;

/// Offsets in the file.
mod at {
    pub(super) const SETUP_SECTORS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const HEADER_END: usize = 0x201;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const LOAD_FLAGS: usize = 0x211;
    pub(super) const INITRD_MAX: usize = 0x22c;
    pub(super) const XLOAD_FLAGS: usize = 0x236;
    pub(super) const PREFERRED: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
}

pub(super) fn parse(source: &Source<'_>) -> Result<KernelImage, ImageError> {
    let start: [u8; 0x290] = source
        .read(0, "the setup header")
        .map_err(|error| match error {
            ImageError::Truncated { .. } => ImageError::UnknownFormat,
            other => other,
        })?;
    if u16_at(&start, at::BOOT_FLAG) != BOOT_FLAG || u32_at(&start, at::MAGIC) != MAGIC {
        return Err(ImageError::UnknownFormat);
    }
    if u16_at(&start, at::VERSION) < MIN_VERSION
        || start[at::LOAD_FLAGS] & LOADED_HIGH == 0
        || u16_at(&start, at::XLOAD_FLAGS) & HAS_ENTRY_64 == 0
    {
        return Err(ImageError::NoEntry64);
    }
    let setup_sectors = match start[at::SETUP_SECTORS] {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let offset = (setup_sectors + 1) * SECTOR;
    let len = source
        .size
        .checked_sub(offset)
        .filter(|len| *len > ENTRY_64)
        .ok_or(ImageError::Truncated {
            what: "the protected-mode kernel",
        })?;
    let address = u64_at(&start, at::PREFERRED);
    let memory = len.max(u64::from(u32_at(&start, at::INIT_SIZE)));
    let end = address.checked_add(memory).ok_or(ImageError::Malformed {
        what: "the preferred address wraps around the address space",
    })?;
    let segment = Segment {
        offset,
        len,
        address,
        memory,
    };
    Ok(KernelImage {
        segments: vec![segment],
        protocol: Protocol::Linux64 {
            entry: address + ENTRY_64,
            header: Some(setup_header(&start)),
        },
        end,
        initrd_limit: u64::from(u32_at(&start, at::INITRD_MAX)).saturating_add(1),
    })
}

/// The header ends where the byte at 0x201 says, counted from 0x202.
fn setup_header(start: &[u8]) -> Vec<u8> {
    let from = at::SETUP_SECTORS;
    let end = at::MAGIC + usize::from(start[at::HEADER_END]);
    let len = (end - from).min(MAX_SETUP_HEADER);
    start.get(from..from + len).unwrap_or_default().to_vec()
}
