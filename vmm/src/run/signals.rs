//! Signals that ask husk-vmm to end: they end the machine as the API's `kill` does, so that nothing is left behind.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a supervisor sends, and what a terminal sends for Ctrl-C.
const ENDING: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Readable once one of the signals has come. They stay pending: the process ends.
pub(crate) struct EndSignals(OwnedFd);

impl EndSignals {
    /// Keeps the signals from ending the process at once. To be called before there is another thread, which would take them.
    #[expect(unsafe_code, reason = "signal masks")]
    pub(crate) fn block() -> io::Result<Self> {
        let set = vmm_sys_util::signal::create_sigset(&ENDING)?;
        // SAFETY: `set` is valid for reading, and the mask before is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` is valid for reading.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, for this owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsRawFd for EndSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
