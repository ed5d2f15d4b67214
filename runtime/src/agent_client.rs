//! Typed calls to the agent in the guest, over the vsock device's unix socket: connect, `CONNECT <port>\n`, read
//! `OK <port>\n`, then frames (`protocol::rpc`) or a standard stream's bytes (`protocol::stream`).
//!
//! The guest is not trusted: what it answers is bounded in size and, for calls that must be quick, in time.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::frame::{self, FrameError};
use protocol::rpc::{ErrorCode, ExitStatus, Process, Reply, Request, Stats};
use protocol::stream::{StreamHello, StreamReady, StreamToken};
use protocol::{CALL_PORT, STREAM_PORT, VERSION};

/// Longest line that answers `CONNECT`, in bytes: `OK 4294967295\n` and some room.
const MAX_ANSWER: usize = 32;

/// Longest time that the agent takes for a call that does not wait for a program.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The sandbox's socket cannot be used.
    #[error("cannot reach the sandbox through {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The guest does not answer on this port.
    #[error("nothing answers on port {port} of the sandbox")]
    NoAnswer {
        /// The port.
        port: u32,
    },
    /// The connection broke, or carried nonsense.
    #[error("call to the agent failed")]
    Frame(#[source] FrameError),
    /// The agent has another version.
    #[error("agent has version {version}, not {VERSION}")]
    Version {
        /// The agent's.
        version: u32,
    },
    /// The agent answered something that is no answer to the call.
    #[error("agent gave an answer that does not belong to the call")]
    Unexpected,
    /// The call was refused. The text is the agent's own: engines look for what runc says.
    #[error("{message}")]
    Refused {
        /// The kind.
        code: ErrorCode,
        /// The agent's text.
        message: String,
    },
}

type Result<T> = std::result::Result<T, AgentError>;

/// A connection for calls. Calls are answered in order.
#[derive(Debug)]
pub(crate) struct AgentClient {
    stream: UnixStream,
}

impl AgentClient {
    /// Connects to a running sandbox.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        Self::greet(connect(socket, CALL_PORT)?)
    }

    /// Takes over a connection that the agent made, and greets.
    pub(crate) fn greet(stream: UnixStream) -> Result<Self> {
        let mut client = Self { stream };
        client.limit(Some(CALL_LIMIT))?;
        match client.call(&Request::Hello { version: VERSION })? {
            Reply::Hello {
                version: VERSION, ..
            } => Ok(client),
            Reply::Hello { version, .. } => Err(AgentError::Version { version }),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// One call that has nothing to return.
    pub(crate) fn done(&mut self, request: &Request) -> Result<()> {
        match self.call(request)? {
            Reply::Done {} => Ok(()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// `Create` or `Exec`: the guest's process id.
    pub(crate) fn started(&mut self, request: &Request) -> Result<i32> {
        match self.call(request)? {
            Reply::Started { pid } => Ok(pid),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// `Processes`.
    pub(crate) fn processes(&mut self, id: &str) -> Result<Vec<Process>> {
        match self.call(&Request::Processes { id: id.into() })? {
            Reply::Processes { processes } => Ok(processes),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// `Stats`.
    pub(crate) fn stats(&mut self, id: &str) -> Result<Stats> {
        match self.call(&Request::Stats { id: id.into() })? {
            Reply::Stats { stats } => Ok(*stats),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Reads the answer to `WaitOom`; the connection is readable.
    pub(crate) fn oom(&mut self) -> Result<u64> {
        match self.answer()? {
            Reply::Oom { kills } => Ok(kills),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Lets the guest write back what it has in memory, for at most `limit`. It powers off then.
    pub(crate) fn shut_down(&mut self, limit: Duration) -> Result<()> {
        self.limit(Some(limit))?;
        self.send(&Request::Shutdown {})?;
        loop {
            match self.answer()? {
                Reply::Done {} => return Ok(()),
                // Of a wait that nobody reads any more.
                Reply::Exited { .. } => {}
                _ => return Err(AgentError::Unexpected),
            }
        }
    }

    /// Sends a call whose answer is awaited elsewhere.
    pub(crate) fn send(&mut self, request: &Request) -> Result<()> {
        frame::write(&self.stream, request).map_err(AgentError::Frame)
    }

    /// Reads the answer to `Wait`: how it ended, and whether memory ran out. The connection is readable.
    pub(crate) fn exited(&mut self) -> Result<(ExitStatus, bool)> {
        match self.answer()? {
            Reply::Exited { status, oom_killed } => Ok((status, oom_killed)),
            _ => Err(AgentError::Unexpected),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Reply> {
        match frame::read(&self.stream).map_err(AgentError::Frame)? {
            Reply::Failed { code, message } => Err(AgentError::Refused { code, message }),
            reply => Ok(reply),
        }
    }

    fn limit(&mut self, limit: Option<Duration>) -> Result<()> {
        let read = self.stream.set_read_timeout(limit);
        let limited = read.and_then(|()| self.stream.set_write_timeout(limit));
        limited.map_err(|error| AgentError::Frame(FrameError::Io(error)))
    }
}

impl AsFd for AgentClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Opens a standard stream. The token goes into the call that uses it.
pub(crate) fn open_stream(socket: &Path) -> Result<(StreamToken, UnixStream)> {
    let broken = |error: io::Error| AgentError::Frame(FrameError::Io(error));
    let mut random = [0; 8];
    let filled = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty());
    filled.map_err(|errno| broken(errno.into()))?;
    let token = StreamToken(u64::from_le_bytes(random));
    let stream = connect(socket, STREAM_PORT)?;
    stream.set_read_timeout(Some(CALL_LIMIT)).map_err(broken)?;
    frame::write(&stream, &StreamHello { token }).map_err(AgentError::Frame)?;
    let StreamReady {} = frame::read(&stream).map_err(AgentError::Frame)?;
    Ok((token, stream))
}

fn connect(socket: &Path, port: u32) -> Result<UnixStream> {
    let failed = |source| AgentError::Connect {
        path: socket.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(CALL_LIMIT)).map_err(failed)?;
    stream
        .write_all(format!("CONNECT {port}\n").as_bytes())
        .map_err(failed)?;
    let accepted = read_line(&mut stream).is_some_and(|line| line.starts_with(b"OK "));
    if accepted {
        Ok(stream)
    } else {
        Err(AgentError::NoAnswer { port })
    }
}

/// Reads up to the line's end and not a byte further: what follows belongs to the guest's port.
fn read_line(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .ok()
            .filter(|()| line.len() < MAX_ANSWER)?;
        line.push(byte[0]);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Serves one connection: the handshake with `answer`, then `replies` in turn, each for one request.
    fn fake_agent(answer: &'static str, replies: Vec<Reply>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vsock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(read_line(&mut stream).unwrap(), b"CONNECT 1024\n");
            stream.write_all(answer.as_bytes()).unwrap();
            for reply in replies {
                frame::read::<Request>(&stream).unwrap();
                frame::write(&stream, &reply).unwrap();
            }
        });
        (dir, socket)
    }

    fn hello(version: u32) -> Reply {
        Reply::Hello {
            version,
            kernel: "6.12".into(),
        }
    }

    #[test]
    fn a_call_is_answered() {
        let (_dir, socket) = fake_agent("OK 7\n", vec![hello(VERSION), Reply::Started { pid: 9 }]);
        let mut agent = AgentClient::connect(&socket).unwrap();
        assert_eq!(
            agent.started(&Request::Start { id: "c".into() }).unwrap(),
            9
        );
    }

    #[test]
    fn refusals_keep_the_agents_code_and_text() {
        let code = ErrorCode::ProgramNotFound;
        let refused = Reply::Failed {
            code,
            message: "exec: \"x\": not found".into(),
        };
        let (_dir, socket) = fake_agent("OK 7\n", vec![hello(VERSION), refused]);
        let mut agent = AgentClient::connect(&socket).unwrap();
        let error = agent.done(&Request::Start { id: "c".into() }).unwrap_err();
        assert_eq!(error.to_string(), "exec: \"x\": not found");
    }

    #[test]
    fn a_guest_that_answers_nonsense_is_an_error() {
        for (answer, replies) in [
            ("", vec![]),
            ("NO\n", vec![]),
            ("OK 0123456789012345678901234567890123456789", vec![]),
            ("OK 7\n", vec![]),
            ("OK 7\n", vec![hello(VERSION + 1)]),
            ("OK 7\n", vec![Reply::Done {}]),
        ] {
            let (_dir, socket) = fake_agent(answer, replies);
            assert!(AgentClient::connect(&socket).is_err(), "{answer:?}");
        }
    }
}
