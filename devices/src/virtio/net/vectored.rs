//! Packets between a port and guest memory where it lies: one system call each.

#![expect(
    unsafe_code,
    reason = "guest memory changes under our feet, so it may go to the kernel by pointer only, not as a Rust slice"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use super::header::Header;
use crate::memory::MemorySnapshot;
use crate::virtio::chain::{Buffer, Chain};
use crate::virtio::queue::QueueError;

/// Pieces of guest memory, in order, as the kernel wants them named.
#[derive(Default)]
pub(super) struct Pieces {
    all: Vec<libc::iovec>,
    /// Keep what `all` names mapped. Few: the same again is not kept twice.
    memory: Vec<MemorySnapshot>,
}

// SAFETY: the pointers name guest memory, which belongs to no thread, and which `memory` keeps mapped.
unsafe impl Send for Pieces {}

impl Pieces {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.memory.clear();
    }

    /// Forgets the first `count`.
    pub(super) fn drop_front(&mut self, count: usize) {
        if count >= self.all.len() {
            self.clear();
        } else {
            self.all.drain(..count);
        }
    }

    /// Adds `buffers` of `chain`.
    pub(super) fn push(&mut self, chain: &Chain, buffers: &[Buffer]) -> Result<(), QueueError> {
        let kept = self.memory.last();
        if kept.is_none_or(|kept| !std::ptr::eq::<_>(&**kept, chain.memory())) {
            self.memory.push(chain.snapshot().clone());
        }
        for buffer in buffers {
            self.all.push(name(&chain.slice(*buffer)?));
        }
        Ok(())
    }

    /// Reads one packet from `port` into the pieces, and what they have no room for into `rest`. Returns its length.
    pub(super) fn read(&mut self, port: BorrowedFd<'_>, rest: &mut [u8]) -> io::Result<usize> {
        let pieces = self.all.len();
        self.all.push(libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        });
        let count = libc::c_int::try_from(self.all.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: each entry names guest memory that `memory` keeps mapped and nobody holds a reference to, or `rest`.
        let moved = unsafe { libc::readv(port.as_raw_fd(), self.all.as_ptr(), count) };
        self.all.truncate(pieces);
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one packet to `port`: `header`, then the pieces.
    pub(super) fn write(&mut self, port: BorrowedFd<'_>, header: &Header) -> io::Result<usize> {
        let first = libc::iovec {
            iov_base: header.as_ptr().cast_mut().cast(),
            iov_len: header.len(),
        };
        self.all.insert(0, first);
        let count = libc::c_int::try_from(self.all.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: as in `read`; the kernel only reads the memory.
        let moved = unsafe { libc::writev(port.as_raw_fd(), self.all.as_ptr(), count) };
        self.all.remove(0);
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }
}

fn name(slice: &VolatileSlice<'_>) -> libc::iovec {
    libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    }
}
