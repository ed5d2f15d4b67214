//! The agent's side of making a process: streams claimed, the helper spawned, told what to do, and listened to.
//!
//! libcontainer forks and continues in the child, which a process with threads must not. So a helper does it: this
//! same program, with one thread, under another name. It makes the new process a child of the agent, and ends.

use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ChildStdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::frame;
use protocol::rpc::ErrorCode;
use protocol::stream::{Stdio, StreamToken};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::helper::HELPER_NAME;
use super::id_maps;
use super::order::{Order, Outcome, Task};
use super::process::Process;
use super::{Containers, Failure};
use crate::boot::reaper::Exit;
use crate::stdio::{Kind, copy_input, copy_output};

/// Where the sockets are that receive pseudo-terminals; short, because a socket's path must be.
const CONSOLES: &str = "/run/husk";

/// Longest time to make a process, hooks of the container included.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// The streams of a process that does not exist yet.
pub(super) struct Wiring {
    /// What the helper gives the process as descriptors 0, 1 and 2; `/dev/null` for a terminal.
    theirs: [OwnedFd; 3],
    ours: Ours,
}

enum Ours {
    Pipes {
        /// Stream, and the pipe's write end.
        stdin: Option<(OwnedFd, OwnedFd)>,
        /// The pipes' read ends, and streams.
        outputs: Vec<(OwnedFd, OwnedFd)>,
    },
    Terminal {
        stream: OwnedFd,
        console: Console,
    },
}

/// A socket that waits for the master of a pseudo-terminal.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Console {
    fn drop(&mut self) {
        // It is in memory, under a name never used again.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Containers {
    /// Claims the streams that a call names.
    pub(super) fn wire(&self, stdio: &Stdio) -> Result<Wiring, Failure> {
        let broken = |error: &io::Error| Failure::internal("set up the standard streams", error);
        match stdio {
            Stdio::Terminal { console, .. } => {
                let stream = self.claim("console", *console)?;
                let console = Console::new().map_err(|error| broken(&error))?;
                let null = || null().map_err(|error| broken(&error));
                Ok(Wiring {
                    theirs: [null()?, null()?, null()?],
                    ours: Ours::Terminal { stream, console },
                })
            }
            Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let claim = |name, token: &Option<StreamToken>| {
                    token.map(|token| self.claim(name, token)).transpose()
                };
                let streams = [
                    claim("stdin", stdin)?,
                    claim("stdout", stdout)?,
                    claim("stderr", stderr)?,
                ];
                Wiring::pipes(streams).map_err(|error| broken(&error))
            }
        }
    }

    fn claim(&self, name: &str, token: StreamToken) -> Result<OwnedFd, Failure> {
        self.streams.claim(token).ok_or_else(|| {
            Failure::new(
                ErrorCode::Invalid,
                format!("stdio.{name} names no open stream"),
            )
        })
    }

    /// Makes a process, watched and with its streams being copied.
    pub(super) fn launch(
        &self,
        id: &str,
        task: Task,
        wiring: Wiring,
        stdio: &Stdio,
    ) -> Result<Process, Failure> {
        let order = Order {
            id: id.to_owned(),
            task,
            console: wiring.console_path(),
            size: match stdio {
                Stdio::Terminal { size, .. } => *size,
                Stdio::Pipes { .. } => None,
            },
        };
        let launching = self.reaper.launching();
        let Wiring { theirs, ours } = wiring;
        let outcome = run_helper(&order, theirs, || launching.spawned());
        match outcome.map_err(|error| Failure::internal("run the helper", &error))? {
            Outcome::Failed { code, message } => Err(Failure::new(code, message)),
            Outcome::Started { pid } => {
                let watched = self.reaper.watch(pid);
                let watched = watched.map_err(|e| Failure::internal("watch the process", &e))?;
                match ours.connect(&watched.exit) {
                    Ok(console) => Ok(Process::new(watched, console)),
                    Err(error) => {
                        watched.signal(Signal::KILL).ok();
                        Err(Failure::internal("copy the standard streams", &error))
                    }
                }
            }
        }
    }
}

impl Wiring {
    fn pipes(streams: [Option<OwnedFd>; 3]) -> io::Result<Self> {
        let [stdin, stdout, stderr] = streams;
        let mut outputs = Vec::new();
        let (their_stdin, stdin) = match stdin {
            None => (null()?, None),
            Some(stream) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                (read, Some((stream, write)))
            }
        };
        let mut output = |stream: Option<OwnedFd>| -> io::Result<OwnedFd> {
            let Some(stream) = stream else {
                return null();
            };
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            outputs.push((read, stream));
            Ok(write)
        };
        let theirs = [their_stdin, output(stdout)?, output(stderr)?];
        Ok(Self {
            theirs,
            ours: Ours::Pipes { stdin, outputs },
        })
    }

    fn console_path(&self) -> Option<PathBuf> {
        match &self.ours {
            Ours::Pipes { .. } => None,
            Ours::Terminal { console, .. } => Some(console.path.clone()),
        }
    }
}

impl Ours {
    /// Starts the copying. Gives the master of the terminal, if it is one.
    fn connect(self, exit: &Arc<Exit>) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Pipes { stdin, outputs } => {
                for (pipe, stream) in outputs {
                    copy_output(pipe, Kind::Pipe, stream, exit.output())?;
                }
                if let Some((stream, pipe)) = stdin {
                    copy_input(stream, pipe, exit.clone())?;
                }
                Ok(None)
            }
            Self::Terminal { stream, console } => {
                let master = console.receive()?;
                let output = exit.output();
                copy_output(
                    master.try_clone()?,
                    Kind::Terminal,
                    stream.try_clone()?,
                    output,
                )?;
                copy_input(stream, master.try_clone()?, exit.clone())?;
                Ok(Some(master))
            }
        }
    }
}

impl Console {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(CONSOLES)?;
        let name = format!("console-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(CONSOLES).join(name);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener })
    }

    /// The master, which the new process has sent before it was reported.
    fn receive(&self) -> io::Result<OwnedFd> {
        let (socket, _) = self.listener.accept()?;
        let [master] = receive_descriptors(&socket)?;
        Ok(master)
    }
}

/// Starts a helper, gives it its order, and returns what comes of it.
fn run_helper(order: &Order, stdio: [OwnedFd; 3], spawned: impl FnOnce()) -> io::Result<Outcome> {
    let (socket, helpers) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg0(HELPER_NAME)
        .env_clear()
        // Where libcontainer finds the programs that it runs.
        .env("PATH", id_maps::DIRECTORY)
        .stdin(ChildStdio::from(OwnedFd::from(helpers)))
        .spawn()?;
    // The reaper waits for it.
    drop(child);
    spawned();
    send_descriptors(&socket, &stdio)?;
    drop(stdio);
    frame::write(&socket, order).map_err(io::Error::other)?;
    // A helper that dies takes its end of the socket along, unless the process it made holds a copy.
    socket.set_read_timeout(Some(HELPER_TIMEOUT))?;
    frame::read(&socket).map_err(io::Error::other)
}

fn send_descriptors(socket: &UnixStream, descriptors: &[OwnedFd; 3]) -> io::Result<()> {
    let borrowed = [0, 1, 2].map(|index| descriptors[index].as_fd());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    let data = [IoSlice::new(&[0])];
    rustix::net::sendmsg(socket, &data, &mut control, SendFlags::empty())?;
    Ok(())
}

/// Exactly `N` descriptors, sent along with one message.
pub(super) fn receive_descriptors<const N: usize>(socket: &UnixStream) -> io::Result<[OwnedFd; N]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // One byte, so that nothing of what follows is taken: a terminal's name, or a frame.
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    descriptors
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "wrong number of descriptors"))
}

fn null() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}
