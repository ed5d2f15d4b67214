//! Signals as events: what engines and users send to a monitor belongs to the container.

#![expect(
    unsafe_code,
    reason = "signal masks and signalfd have no safe wrapper in rustix"
)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that keep their meaning for the monitor itself: its own faults, and what says nothing to a container.
const OWN: [i32; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
];

/// All other signals, blocked and read instead.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: File,
}

impl Signals {
    /// Takes the signals over for the rest of the process's life.
    pub(crate) fn take() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set it is given.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        for signal in OWN {
            // SAFETY: the set is initialised, the signal is a constant.
            unsafe { libc::sigdelset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: the set is initialised; the old mask is not asked for.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd: fd.into() })
    }

    /// The next signal that has arrived.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut event = [0; size_of::<libc::signalfd_siginfo>()];
        (&self.fd).read_exact(&mut event).ok()?;
        // The signal's number is the first field, 32 bits.
        let (number, _) = event.split_first_chunk()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }

    /// Whether somebody asked this process to end; other signals that have arrived are dropped.
    pub(crate) fn asked_to_end(&self) -> bool {
        let ends = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
        std::iter::from_fn(|| self.next()).any(|signal| ends.contains(&signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
