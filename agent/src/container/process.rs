//! One process of a container that the host knows: its first, or one started by `Exec`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use protocol::stream::WindowSize;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::Winsize;

use crate::boot::reaper::{Exit, Watched};

/// See the module.
#[derive(Debug)]
pub(super) struct Process {
    watched: Watched,
    /// Master of its pseudo-terminal, if it has one.
    console: Option<OwnedFd>,
}

impl Process {
    pub(super) fn new(watched: Watched, console: Option<OwnedFd>) -> Self {
        Self { watched, console }
    }

    pub(super) fn pid(&self) -> i32 {
        self.watched.pid
    }

    pub(super) fn exit(&self) -> &Arc<Exit> {
        &self.watched.exit
    }

    /// Sends a signal; `ESRCH` if the process has ended.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        self.watched.signal(signal)
    }

    /// Changes the size of its terminal; `ENOTTY` if it has none.
    pub(super) fn resize(&self, size: WindowSize) -> Result<(), Errno> {
        let console = self.console.as_ref().ok_or(Errno::NOTTY)?;
        rustix::termios::tcsetwinsize(console, window(size))
    }
}

/// As the kernel wants it; the size in pixels is unknown.
pub(super) fn window(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
