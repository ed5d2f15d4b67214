//! The standard streams of one process: vsock connections to the guest, bound to what the caller gave.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use protocol::stream::{self, StreamToken, WindowSize};
use rustix::fs::{FileType, fstat, major, minor};
use rustix::stdio::{stderr, stdin, stdout};

use super::flow::{End, Flow};
use super::terminal::{Terminal, TerminalError};
use crate::agent_client::{AgentError, open_stream};

/// Device number of `/dev/null`.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Why the streams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    /// The guest does not take a stream.
    #[error("cannot open a standard stream")]
    Stream(#[source] AgentError),
    /// A descriptor of the caller is not usable.
    #[error("cannot use the standard streams")]
    Descriptor(#[source] io::Error),
    /// There is no terminal.
    #[error(transparent)]
    Terminal(TerminalError),
}

/// Where a process's streams lead on the host.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// To this process's own.
    Inherit,
    /// To the terminal that the user sits at.
    UserTerminal,
    /// To a new terminal that an engine gets through this socket.
    Console(PathBuf),
}

/// Open streams. The call that uses them names them by what [`StdioStreams::message`] says.
#[derive(Debug)]
pub(crate) struct StdioStreams {
    /// For `Create` or `Exec`.
    pub(crate) message: stream::Stdio,
    pub(super) flows: Vec<Flow>,
    pub(super) terminal: Option<Terminal>,
}

impl StdioStreams {
    /// Opens what `mode` needs. `size` is used if the terminal has none.
    pub(crate) fn open(
        socket: &Path,
        mode: &Mode,
        size: Option<WindowSize>,
    ) -> Result<Self, StdioError> {
        match mode {
            Mode::Inherit => Self::pipes(socket),
            Mode::UserTerminal => {
                let terminal = Terminal::of_user().map_err(StdioError::Terminal)?;
                let (input, output) = (owned(stdin())?, owned(stdout())?);
                Self::console(socket, terminal, (input, output), size)
            }
            Mode::Console(console_socket) => {
                let terminal =
                    Terminal::for_engine(console_socket).map_err(StdioError::Terminal)?;
                let end = || terminal.descriptor().map_err(StdioError::Terminal);
                let ends = (end()?, end()?);
                Self::console(socket, terminal, ends, size)
            }
        }
    }

    fn console(
        socket: &Path,
        terminal: Terminal,
        (input, output): (OwnedFd, OwnedFd),
        size: Option<WindowSize>,
    ) -> Result<Self, StdioError> {
        let (console, stream) = open_stream(socket).map_err(StdioError::Stream)?;
        let guest = End::guest(stream).map_err(StdioError::Descriptor)?;
        let flows = vec![
            Flow::console(host(input)?, guest.clone()),
            Flow::console(guest, host(output)?),
        ];
        let message = stream::Stdio::Terminal {
            console,
            size: terminal.size().or(size),
        };
        Ok(Self {
            message,
            flows,
            terminal: Some(terminal),
        })
    }

    fn pipes(socket: &Path) -> Result<Self, StdioError> {
        let mut flows = Vec::new();
        let mut open =
            |fd: BorrowedFd<'_>, input: bool| -> Result<Option<StreamToken>, StdioError> {
                if is_null(fd) {
                    return Ok(None);
                }
                let (token, stream) = open_stream(socket).map_err(StdioError::Stream)?;
                let guest = End::guest(stream).map_err(StdioError::Descriptor)?;
                let ours = host(owned(fd)?)?;
                flows.push(if input {
                    Flow::new(ours, guest)
                } else {
                    Flow::new(guest, ours)
                });
                Ok(Some(token))
            };
        let stdin = open(stdin(), true)?;
        let stdout = open(stdout(), false)?;
        let stderr = open(stderr(), false)?;
        let message = stream::Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        };
        Ok(Self {
            message,
            flows,
            terminal: None,
        })
    }
}

fn host(fd: OwnedFd) -> Result<End, StdioError> {
    End::host(fd).map_err(StdioError::Descriptor)
}

fn owned(fd: BorrowedFd<'_>) -> Result<OwnedFd, StdioError> {
    fd.try_clone_to_owned().map_err(StdioError::Descriptor)
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL_DEVICE
    })
}
