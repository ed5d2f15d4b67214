//! Positioned I/O between a file and guest memory where it lies.

#![expect(
    unsafe_code,
    reason = "guest memory changes under our feet, so it may go to the kernel by pointer only, not as a Rust slice"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;
use vm_memory::volatile_memory::PtrGuardMut;

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the file to guest memory.
    Read,
    /// From guest memory to the file.
    Write,
}

/// Guest memory as the kernel wants it named.
struct Vectors {
    all: Vec<libc::iovec>,
    /// Vectors before this one are done.
    first: usize,
    /// Keep the memory of `all` mapped.
    _guards: Vec<PtrGuardMut>,
}

impl Vectors {
    fn new(slices: &[VolatileSlice<'_>]) -> Self {
        let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
        let vectors = guards.iter().map(|guard| libc::iovec {
            iov_base: guard.as_ptr().cast(),
            iov_len: guard.len(),
        });
        Self {
            all: vectors.collect(),
            first: 0,
            _guards: guards,
        }
    }

    fn rest(&self) -> &[libc::iovec] {
        self.all.get(self.first..).unwrap_or_default()
    }

    /// Leaves out the first `count` bytes of what is left.
    fn advance(&mut self, mut count: usize) {
        while let Some(vector) = self.all.get_mut(self.first) {
            let done = count.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(done);
            vector.iov_len = vector.iov_len.saturating_sub(done);
            count = count.saturating_sub(done);
            if vector.iov_len > 0 {
                return;
            }
            self.first = self.first.saturating_add(1);
        }
    }
}

/// Moves all of `slices` at `offset` of `file`. An end of file in between is an error.
pub(super) fn transfer(
    file: &File,
    direction: Direction,
    slices: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<()> {
    let mut vectors = Vectors::new(slices);
    let mut at = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    while !vectors.rest().is_empty() {
        let rest = vectors.rest();
        let few = rest.len().min(libc::UIO_MAXIOV.unsigned_abs() as usize);
        let few = libc::c_int::try_from(few).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, vector) = (file.as_raw_fd(), rest.as_ptr());
        let moved = match direction {
            // SAFETY: `vector` has at least `few` entries, which name mapped guest memory that nobody holds a Rust reference to.
            Direction::Read => unsafe { libc::preadv(fd, vector, few, at) },
            // SAFETY: as above; the kernel only reads the memory.
            Direction::Write => unsafe { libc::pwritev(fd, vector, few, at) },
        };
        match usize::try_from(moved) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                vectors.advance(count);
                at = at.saturating_add(moved as libc::off_t);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Tells a block device that `offset..offset + len` is not needed.
pub(super) fn discard_blocks(device: &File, offset: u64, len: u64) -> io::Result<()> {
    /// `_IO(0x12, 119)` of linux/fs.h.
    const BLKDISCARD: libc::c_ulong = 0x1277;
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two 64-bit integers.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
