//! A raw image or block device: executes what a request asks for.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, SeekFrom, StatxFlags, fallocate, fdatasync, fstat,
    ioctl_blksszget, seek, statx,
};
use vm_memory::{Bytes, VolatileSlice};

use super::request::SECTOR;
use super::vectored::{Direction, discard_blocks, transfer};

/// Largest buffer of our own: for zeroes to be written, and for data that direct I/O does not take where it lies.
const MAX_BOUNCE: usize = 1 << 20;
/// Block size for direct I/O on a file that does not say what it needs; no file system of Linux needs more.
const SAFE_BLOCK: u32 = 4096;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Its kind or size cannot be found out.
    #[error("disk cannot be examined")]
    Examine(#[source] io::Error),
    /// Only regular files and block devices can.
    #[error("disk is neither a regular file nor a block device")]
    Kind,
    /// Not even one block.
    #[error("disk of {bytes} bytes is smaller than one block of {block}")]
    TooSmall {
        /// Its size.
        bytes: u64,
        /// Size of a block.
        block: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    BlockDevice,
}

/// An open disk.
#[derive(Debug)]
pub struct Backend {
    file: File,
    kind: Kind,
    read_only: bool,
    /// Opened with `O_DIRECT`.
    direct: bool,
    block: u32,
    bytes: u64,
}

impl Backend {
    /// Makes a disk of `file`, which is open as the two flags say.
    pub fn new(file: File, read_only: bool, direct: bool) -> Result<Self, BackendError> {
        let examine = |error: rustix::io::Errno| BackendError::Examine(error.into());
        let stat = fstat(&file).map_err(examine)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => return Err(BackendError::Kind),
        };
        let block = match kind {
            Kind::BlockDevice => ioctl_blksszget(&file).map_err(examine)?,
            Kind::File if direct => direct_block(&file),
            Kind::File => SECTOR,
        };
        let size = seek(&file, SeekFrom::End(0)).map_err(examine)?;
        let rest = size.checked_rem(block.into()).unwrap_or(size);
        let bytes = size.saturating_sub(rest);
        if bytes == 0 {
            return Err(BackendError::TooSmall { bytes: size, block });
        }
        Ok(Self {
            file,
            kind,
            read_only,
            direct,
            block,
            bytes,
        })
    }

    /// Whether it cannot be written.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Size of a block in bytes: what offsets and lengths are to be multiples of.
    #[must_use]
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Size in bytes, a multiple of the block.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Size in sectors.
    pub(super) fn sectors(&self) -> u64 {
        self.bytes >> SECTOR.trailing_zeros()
    }

    /// Fills `slices` from `offset` on.
    pub(super) fn read(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        self.transfer(Direction::Read, slices, offset)
    }

    /// Writes `slices` from `offset` on.
    pub(super) fn write(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        self.transfer(Direction::Write, slices, offset)
    }

    fn transfer(
        &self,
        direction: Direction,
        slices: &[VolatileSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        if self.direct && !slices.iter().all(|slice| self.takes(slice)) {
            self.bounce(direction, slices, offset)
        } else {
            transfer(&self.file, direction, slices, offset)
        }
    }

    /// Whether direct I/O takes `slice` where it lies.
    fn takes(&self, slice: &VolatileSlice<'_>) -> bool {
        let block = self.block as usize;
        let address = slice.ptr_guard().as_ptr().addr();
        address.is_multiple_of(block) && slice.len().is_multiple_of(block)
    }

    /// Direct I/O through an aligned buffer, a piece at a time.
    fn bounce(
        &self,
        direction: Direction,
        slices: &[VolatileSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let total: usize = slices.iter().map(VolatileSlice::len).sum();
        let align = self.block as usize;
        // A multiple of the block, for both are powers of two.
        let piece = total.min(MAX_BOUNCE.max(align));
        let mut buffer = vec![0_u8; piece.saturating_add(align)];
        let skip = buffer.as_ptr().align_offset(align);
        let aligned = buffer.get_mut(skip..).unwrap_or_default();
        let mut done = 0;
        while done < total {
            let len = piece.min(total.saturating_sub(done));
            let part = aligned.get_mut(..len).ok_or(io::ErrorKind::InvalidInput)?;
            if direction == Direction::Write {
                gather(slices, done, part)?;
            }
            let at = offset.saturating_add(done as u64);
            transfer(
                &self.file,
                direction,
                &[VolatileSlice::from(&mut *part)],
                at,
            )?;
            if direction == Direction::Read {
                scatter(slices, done, part)?;
            }
            done = done.saturating_add(len);
        }
        Ok(())
    }

    /// Makes all writes so far survive a loss of power.
    pub(super) fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        Ok(fdatasync(&self.file)?)
    }

    /// Gives the space of `offset..offset + len` back to the host. What it reads as afterwards is not defined.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match self.kind {
            Kind::BlockDevice => discard_blocks(&self.file, offset, len),
            Kind::File => self.punch(offset, len),
        }
    }

    /// Makes `offset..offset + len` read as zeroes, and gives its space back if `unmap` allows.
    pub(super) fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let zero = || {
            let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            Ok(fallocate(&self.file, flags, offset, len)?)
        };
        let punch = || self.punch(offset, len);
        let attempts: [&dyn Fn() -> io::Result<()>; 2] = if unmap {
            [&punch, &zero]
        } else {
            [&zero, &punch]
        };
        for attempt in attempts {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                outcome => return outcome,
            }
        }
        self.write_zero_bytes(offset, len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, len)?)
    }

    fn write_zero_bytes(&self, offset: u64, len: u64) -> io::Result<()> {
        let piece = usize::try_from(len).unwrap_or(MAX_BOUNCE).min(MAX_BOUNCE);
        let mut zeroes = vec![0_u8; piece];
        let mut done = 0;
        while done < len {
            let left = usize::try_from(len.saturating_sub(done)).unwrap_or(piece);
            let part = zeroes.get_mut(..left.min(piece)).unwrap_or_default();
            let count = part.len() as u64;
            self.write(&[VolatileSlice::from(part)], offset.saturating_add(done))?;
            done = done.saturating_add(count);
        }
        Ok(())
    }
}

/// What direct I/O on `file` wants offsets, lengths and memory to be multiples of.
fn direct_block(file: impl AsFd) -> u32 {
    let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let align = stat.map_or(0, |stat| {
        stat.stx_dio_offset_align.max(stat.stx_dio_mem_align)
    });
    if align.is_power_of_two() && (SECTOR..=SAFE_BLOCK).contains(&align) {
        align
    } else {
        SAFE_BLOCK
    }
}

/// Copies to `part` from byte `offset` of `slices`.
fn gather(slices: &[VolatileSlice<'_>], offset: usize, part: &mut [u8]) -> io::Result<()> {
    let mut rest = part;
    for slice in behind(slices, offset) {
        let count = slice.len().min(rest.len());
        let (now, later) = rest.split_at_mut(count);
        slice.read_slice(now, 0).map_err(io::Error::other)?;
        rest = later;
    }
    Ok(())
}

/// Copies `part` to byte `offset` of `slices`.
fn scatter(slices: &[VolatileSlice<'_>], offset: usize, part: &[u8]) -> io::Result<()> {
    let mut rest = part;
    for slice in behind(slices, offset) {
        let (now, later) = rest.split_at(slice.len().min(rest.len()));
        slice.write_slice(now, 0).map_err(io::Error::other)?;
        rest = later;
    }
    Ok(())
}

/// What is left of `slices` behind their first `offset` bytes.
fn behind<'a>(
    slices: &'a [VolatileSlice<'a>],
    mut offset: usize,
) -> impl Iterator<Item = VolatileSlice<'a>> {
    slices.iter().filter_map(move |slice| {
        let skipped = offset.min(slice.len());
        offset = offset.saturating_sub(skipped);
        slice.offset(skipped).ok()
    })
}
