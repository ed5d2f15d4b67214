//! The host's side of a terminal: the user's own, or a new one whose controlling end goes to the engine.
//!
//! The terminal that the program sees is made in the guest. The host's is raw: every byte passes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use protocol::stream::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// What accompanies the descriptor on a console socket: runc sends the name that it opened.
const PTY_NAME: &[u8] = b"/dev/ptmx";

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    /// The user has none.
    #[error("a terminal is asked for, but none of the standard streams is one")]
    NotATerminal,
    /// No terminal can be made or switched to raw mode.
    #[error("cannot set up a terminal")]
    SetUp(#[source] io::Error),
    /// The engine's socket does not take the descriptor.
    #[error("cannot send the terminal to {path}")]
    Send {
        /// The console socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn set_up(errno: rustix::io::Errno) -> TerminalError {
    TerminalError::SetUp(errno.into())
}

/// A terminal of the host in raw mode. Dropping it restores what the user had.
#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    restore: Option<Termios>,
}

impl Terminal {
    /// The terminal that the user sits at.
    pub(crate) fn of_user() -> Result<Self, TerminalError> {
        let streams = [
            rustix::stdio::stderr(),
            rustix::stdio::stdout(),
            rustix::stdio::stdin(),
        ];
        let stream = streams.into_iter().find(|stream| isatty(stream));
        let stream = stream.ok_or(TerminalError::NotATerminal)?;
        let fd = stream.try_clone_to_owned().map_err(TerminalError::SetUp)?;
        let before = make_raw(&fd).map_err(set_up)?;
        Ok(Self {
            fd,
            restore: Some(before),
        })
    }

    /// A new terminal; `console_socket` gets the controlling end, and this process's session the other.
    pub(crate) fn for_engine(console_socket: &Path) -> Result<Self, TerminalError> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let controller = controller.map_err(set_up)?;
        unlockpt(&controller).map_err(set_up)?;
        let name = ptsname(&controller, Vec::new()).map_err(set_up)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&name, flags, Mode::empty()).map_err(set_up)?;
        make_raw(&fd).map_err(set_up)?;
        // As the controlling terminal of this session it tells of every change of its size by SIGWINCH.
        rustix::process::ioctl_tiocsctty(&fd).map_err(set_up)?;
        send(&controller, console_socket).map_err(|source| TerminalError::Send {
            path: console_socket.to_owned(),
            source,
        })?;
        Ok(Self { fd, restore: None })
    }

    /// A descriptor of it.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, TerminalError> {
        self.fd.try_clone().map_err(TerminalError::SetUp)
    }

    /// Its size; nothing if nobody has set one.
    pub(crate) fn size(&self) -> Option<WindowSize> {
        let size = tcgetwinsize(&self.fd)
            .ok()
            .filter(|size| size.ws_row > 0 && size.ws_col > 0)?;
        Some(WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.restore {
            // A terminal that is gone needs no restoring.
            let _outcome = tcsetattr(&self.fd, OptionalActions::Now, before);
        }
    }
}

/// Switches to raw mode; returns what was before.
fn make_raw(fd: impl AsFd) -> rustix::io::Result<Termios> {
    let before = tcgetattr(&fd)?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(&fd, OptionalActions::Now, &raw)?;
    Ok(before)
}

fn send(controller: &OwnedFd, console_socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(console_socket)?;
    let fds = [controller.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &stream,
        &[IoSlice::new(PTY_NAME)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
