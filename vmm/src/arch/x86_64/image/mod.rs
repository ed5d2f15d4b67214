//! Kernel images: what to load where, and how to start it. A file is hostile input: everything is checked here, before a
//! virtual machine exists.
//!
//! husk reads headers itself, since the loaders of the rust-vmm crates copy the image, and husk maps it.

mod bzimage;
mod elf;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::layout::HIGH_RAM;

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// It could not be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// Neither format.
    #[error("is neither a 64-bit x86 ELF file nor a bzImage")]
    UnknownFormat,
    /// A header is cut off, or points outside the file.
    #[error("is truncated: {what} lies outside the file")]
    Truncated {
        /// The part that is missing.
        what: &'static str,
    },
    /// A header makes no sense.
    #[error("is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A bzImage without a 64-bit entry, or from before Linux 3.8.
    #[error("is a bzImage that cannot be started in 64-bit mode")]
    NoEntry64,
    /// It needs memory that the machine does not have.
    #[error("needs memory at {start:#x}..{end:#x}, outside {low:#x}..{high:#x}")]
    DoesNotFit {
        /// First address it needs.
        start: u64,
        /// End of what it needs.
        end: u64,
        /// First usable address.
        low: u64,
        /// End of usable memory.
        high: u64,
    },
}

/// A part of the file that belongs at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it starts in the file.
    pub(crate) offset: u64,
    /// How many bytes of the file.
    pub(crate) len: u64,
    /// Guest-physical address.
    pub(crate) address: u64,
    /// Bytes of memory; what the file does not fill is zero.
    pub(crate) memory: u64,
}

impl Segment {
    /// First address behind it. Cannot wrap: the parsers check.
    pub(super) fn end(&self) -> u64 {
        self.address.saturating_add(self.memory)
    }
}

/// How a kernel is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protocol {
    /// PVH (Xen `docs/misc/pvh.pandoc`): 32-bit protected mode.
    Pvh {
        /// Physical entry point.
        entry: u64,
    },
    /// The 64-bit boot protocol (Linux `Documentation/arch/x86/boot.rst`).
    Linux64 {
        /// Physical entry point.
        entry: u64,
        /// The bzImage's setup header as it stands in the file, or none for ELF.
        header: Option<Vec<u8>>,
    },
}

/// A kernel that was checked and can be loaded.
#[derive(Debug)]
pub(crate) struct KernelImage {
    /// What to load. No two overlap.
    pub(crate) segments: Vec<Segment>,
    pub(super) protocol: Protocol,
    /// End of the memory that the kernel uses before it looks at the memory map.
    pub(crate) end: u64,
    /// An initrd must lie below.
    pub(crate) initrd_limit: u64,
}

impl KernelImage {
    /// Reads the headers of `file`, of `size` bytes, for a machine with `ram_end` bytes of memory below its hole.
    pub(crate) fn parse(file: &File, size: u64, ram_end: u64) -> Result<Self, ImageError> {
        let source = Source { file, size };
        let magic: [u8; 4] = source.read(0, "the header")?;
        let image = if magic == *b"\x7fELF" {
            elf::parse(&source)?
        } else {
            bzimage::parse(&source)?
        };
        image.check_fit(ram_end)?;
        Ok(image)
    }

    fn check_fit(&self, high: u64) -> Result<(), ImageError> {
        let start = self.segments.iter().map(|segment| segment.address).min();
        let start = start.ok_or(ImageError::Malformed {
            what: "nothing to load",
        })?;
        let (end, low) = (self.end, HIGH_RAM);
        if start < low || end > high {
            return Err(ImageError::DoesNotFit {
                start,
                end,
                low,
                high,
            });
        }
        Ok(())
    }
}

/// A file whose every access is checked against its size.
struct Source<'a> {
    file: &'a File,
    size: u64,
}

impl Source<'_> {
    fn check(&self, offset: u64, len: u64, what: &'static str) -> Result<(), ImageError> {
        let end = offset.checked_add(len);
        match end.is_some_and(|end| end <= self.size) {
            true => Ok(()),
            false => Err(ImageError::Truncated { what }),
        }
    }

    fn read<const N: usize>(&self, offset: u64, what: &'static str) -> Result<[u8; N], ImageError> {
        let mut bytes = [0; N];
        self.check(offset, N as u64, what)?;
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(ImageError::Read)?;
        Ok(bytes)
    }

    /// `len` is bounded by the caller.
    fn read_vec(&self, offset: u64, len: usize, what: &'static str) -> Result<Vec<u8>, ImageError> {
        self.check(offset, len as u64, what)?;
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(ImageError::Read)?;
        Ok(bytes)
    }
}

/// A little-endian field of `bytes`. The caller's offsets are constants within a buffer it sized; beyond it reads as 0.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(field(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(bytes, offset))
}
