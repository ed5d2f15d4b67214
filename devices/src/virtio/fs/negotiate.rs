//! `FUSE_INIT`: which protocol and which of its options a guest gets.
//!
//! The server's own answer leaves the guest with writes of 4 KiB, since it only names the options that it acts upon itself. So
//! the options are chosen here, and the answer is made here.

use fuse_backend_rs::abi::fuse_abi::{
    FsOptions, InitIn, InitOut, KERNEL_MINOR_VERSION, KERNEL_VERSION,
};

use super::request::{MAX_IO, Request};

/// Oldest minor version spoken: the first with `max_pages` (Linux 4.20). Older ones have replies of other sizes.
const OLDEST_MINOR: u32 = 28;

/// Options that only say how the guest's kernel talks to any server, and so are wanted of all.
///
/// Absent on purpose: `POSIX_LOCKS` and `FLOCK_LOCKS` (without them the guest's kernel keeps locks itself, which is what its
/// processes need; with them the server, which has no lock operations, would refuse all), `EXPORT_SUPPORT` (lookups of `..`),
/// `POSIX_ACL` (the server does not answer for inheritance), `PERFILE_DAX`, `EXPLICIT_INVAL_DATA` (the host may change files).
fn transport() -> FsOptions {
    FsOptions::ASYNC_READ
        | FsOptions::ATOMIC_O_TRUNC
        | FsOptions::BIG_WRITES
        | FsOptions::AUTO_INVAL_DATA
        | FsOptions::ASYNC_DIO
        | FsOptions::PARALLEL_DIROPS
        | FsOptions::ABORT_ERROR
        | FsOptions::MAX_PAGES
        | FsOptions::CACHE_SYMLINKS
        | FsOptions::SUBMOUNTS
}

/// Of what the server would act upon, what it may.
fn server() -> FsOptions {
    FsOptions::DO_READDIRPLUS
        | FsOptions::READDIRPLUS_AUTO
        | FsOptions::WRITEBACK_CACHE
        | FsOptions::HANDLE_KILLPRIV_V2
}

/// What a guest offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// A newer major version: it is told ours, and asks again.
    Newer,
    /// Ours, with these options and this much read-ahead.
    Ours {
        /// All options that the guest knows, of those that matter.
        options: FsOptions,
        /// Bytes.
        readahead: u32,
    },
}

/// Reads the guest's offer. A version that is too old is `EPROTO`.
pub(super) fn offer(request: &Request) -> Result<Offer, i32> {
    let init: InitIn = request.fixed()?;
    if init.major > KERNEL_VERSION {
        return Ok(Offer::Newer);
    }
    if init.major < KERNEL_VERSION || init.minor < OLDEST_MINOR {
        return Err(libc::EPROTO);
    }
    // All wanted options are among the first 32, so the second word of newer guests is not read.
    let offered = FsOptions::from_bits_truncate(u64::from(init.flags));
    Ok(Offer::Ours {
        options: offered & (transport() | server()),
        readahead: init.max_readahead,
    })
}

/// The answer to a newer major version.
pub(super) fn version() -> InitOut {
    InitOut {
        major: KERNEL_VERSION,
        minor: KERNEL_MINOR_VERSION,
        ..InitOut::default()
    }
}

/// The answer to `offered`, of which the server acts upon `acted`.
pub(super) fn accept(offered: FsOptions, acted: FsOptions, readahead: u32) -> InitOut {
    let granted = offered & (transport() | (acted & server()));
    InitOut {
        max_readahead: readahead,
        flags: u32::try_from(granted.bits()).unwrap_or_default(),
        max_background: u16::MAX,
        congestion_threshold: u16::MAX / 4 * 3,
        max_write: MAX_IO,
        max_pages: MAX_PAGES,
        time_gran: 1,
        ..version()
    }
}

/// `MAX_IO` in pages of 4 KiB.
const MAX_PAGES: u16 = 256;
const _: () = assert!(MAX_PAGES as u32 * 4096 == MAX_IO);
