//! One call connection: a frame in, a [`Request`] carried out, a [`Reply`] back, until the host hangs up.
//!
//! A process started by `Exec`, and a container made by `Create`, live no longer than the connection that carried the call.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use protocol::frame::{self, FrameError};
use protocol::network::Network;
use protocol::rpc::{ErrorCode, Reply, Request};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::boot::{mounts, poweroff};
use crate::container::{Call, Containers, Failure, Lifelines};
use crate::network;

const GREET_FIRST: &str = "the first call must be hello";

/// Serves a connection until the host closes it or breaks the framing.
pub(crate) fn serve(connection: OwnedFd, containers: &Arc<Containers>) {
    let mut session = Session {
        greeted: false,
        containers,
        lifelines: Lifelines::default(),
    };
    session.serve(&File::from(connection));
    session.lifelines.end(containers);
}

struct Session<'a> {
    greeted: bool,
    containers: &'a Arc<Containers>,
    lifelines: Lifelines,
}

impl Session<'_> {
    fn serve(&mut self, socket: &File) {
        loop {
            let reply = match frame::read::<Request>(socket) {
                Ok(Request::Shutdown {}) if self.greeted => {
                    shut_down(socket, self.containers);
                    continue;
                }
                Ok(Request::Wait { id, exec }) if self.greeted => {
                    match self.wait(socket, &id, exec.as_deref()) {
                        Some(reply) => reply,
                        None => return,
                    }
                }
                Ok(Request::WaitOom { id, seen }) if self.greeted => {
                    match self.containers.wait_oom(socket, &id, seen) {
                        Some(reply) => reply,
                        None => return,
                    }
                }
                Ok(request) => self.answer(request),
                // The frame was read to its end: the next one can be understood.
                Err(error @ FrameError::Json(_)) => {
                    Failure::caused(ErrorCode::Invalid, &error).into_reply()
                }
                Err(_) => return,
            };
            if frame::write(socket, &reply).is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        if let Request::Hello { version } = request {
            return self.greet(version);
        }
        if !self.greeted {
            return Failure::new(ErrorCode::Version, GREET_FIRST.to_owned()).into_reply();
        }
        self.carry_out(request).unwrap_or_else(Failure::into_reply)
    }

    fn greet(&mut self, version: u32) -> Reply {
        if version != protocol::VERSION {
            let message = format!(
                "the agent speaks version {}, not {version}",
                protocol::VERSION
            );
            return Failure::new(ErrorCode::Version, message).into_reply();
        }
        self.greeted = true;
        Reply::Hello {
            version: protocol::VERSION,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
        }
    }

    fn carry_out(&mut self, request: Request) -> Call {
        let containers = self.containers;
        match request {
            Request::Network { network } => set_up_network(&network),
            Request::Create(create) => containers.create(*create, &mut self.lifelines),
            Request::Start { id } => containers.start(&id),
            Request::Exec {
                id,
                exec,
                process,
                stdio,
            } => containers.exec(&id, &exec, *process, &stdio, &mut self.lifelines),
            Request::Signal {
                id,
                exec,
                signal,
                all,
            } => containers.signal(&id, exec.as_deref(), signal, all),
            Request::Resize { id, exec, size } => containers.resize(&id, exec.as_deref(), size),
            Request::State { id } => containers.state(&id),
            Request::Processes { id } => containers.processes(&id),
            Request::Stats { id } => containers.stats(&id),
            Request::Update { id, resources } => containers.update(&id, *resources),
            Request::Pause { id } => containers.pause(&id),
            Request::Resume { id } => containers.resume(&id),
            Request::Delete { id, force } => containers.delete(&id, force),
            Request::Hello { .. }
            | Request::Wait { .. }
            | Request::WaitOom { .. }
            | Request::Shutdown {} => Err(Failure::new(ErrorCode::Version, GREET_FIRST.to_owned())),
        }
    }

    /// Answers when the process and its output have ended; `None` if the host hangs up before.
    fn wait(&self, socket: &File, id: &str, exec: Option<&str>) -> Option<Reply> {
        let exit = match self.containers.exit(id, exec) {
            Ok(exit) => exit,
            Err(failure) => return Some(failure.into_reply()),
        };
        while exit.status().is_none() {
            let mut fds = [
                // The host may send its next call meanwhile: only its going away counts.
                PollFd::new(socket, PollFlags::RDHUP),
                PollFd::new(exit.ended(), PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => return None,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(Reply::Exited {
            status: exit.wait(),
            oom_killed: self.containers.oom_killed(id),
        })
    }
}

fn set_up_network(network: &Network) -> Call {
    match network::set_up(network) {
        Ok(()) => Ok(Reply::Done {}),
        Err(error) => Err(Failure::caused(ErrorCode::Internal, &error)),
    }
}

/// The reply goes out when all is written back: the host need not wait for more.
fn shut_down(socket: &File, containers: &Containers) {
    containers.kill_all();
    mounts::announce_last_sync();
    rustix::fs::sync();
    drop(frame::write(socket, &Reply::Done {}));
    let errno = poweroff::power_off();
    poweroff::say(&format!("husk-agent: cannot power off: {errno}"));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn connect() -> UnixStream {
        let (host, guest) = UnixStream::pair().unwrap();
        thread::spawn(move || serve(guest.into(), &Arc::new(Containers::default())));
        host
    }

    fn call(host: &UnixStream, request: &Request) -> Reply {
        frame::write(host, request).unwrap();
        frame::read(host).unwrap()
    }

    fn greet(host: &UnixStream) {
        let version = protocol::VERSION;
        let reply = call(host, &Request::Hello { version });
        assert!(matches!(reply, Reply::Hello { version: v, .. } if v == version));
    }

    fn code(reply: &Reply) -> Option<ErrorCode> {
        match reply {
            Reply::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    #[test]
    fn calls_before_hello_and_other_versions_are_refused() {
        let host = connect();
        let state = Request::State { id: "a".to_owned() };
        assert_eq!(code(&call(&host, &state)), Some(ErrorCode::Version));
        let reply = call(&host, &Request::Hello { version: 99 });
        assert_eq!(code(&reply), Some(ErrorCode::Version));
        assert_eq!(
            code(&call(&host, &Request::Shutdown {})),
            Some(ErrorCode::Version)
        );
        greet(&host);
        assert_eq!(code(&call(&host, &state)), Some(ErrorCode::NotFound));
    }

    #[test]
    fn malformed_json_is_answered_and_the_connection_goes_on() {
        let mut host = connect();
        for body in [
            &b"{"[..],
            b"null",
            b"{\"call\":\"nonsense\"}",
            b"\xff\xfe",
            b"{\"call\":\"state\",\"id\":1}",
            b"{\"call\":\"state\",\"id\":\"a\",\"more\":1}",
        ] {
            host.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())
                .unwrap();
            host.write_all(body).unwrap();
            let reply: Reply = frame::read(&host).unwrap();
            assert_eq!(code(&reply), Some(ErrorCode::Invalid), "{body:?}");
        }
        greet(&host);
    }

    #[test]
    fn deep_json_does_not_exhaust_the_stack() {
        let mut host = connect();
        let body = "[".repeat(100_000);
        host.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())
            .unwrap();
        host.write_all(body.as_bytes()).unwrap();
        let reply: Reply = frame::read(&host).unwrap();
        assert_eq!(code(&reply), Some(ErrorCode::Invalid));
    }

    #[test]
    fn an_oversized_frame_ends_the_connection() {
        let mut host = connect();
        host.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(
            frame::read::<Reply>(&host),
            Err(FrameError::Closed)
        ));
    }

    #[test]
    fn ids_that_are_paths_are_refused_by_every_call() {
        let host = connect();
        greet(&host);
        for id in ["", ".", "..", "a/b", "../x", "a\0b", &"x".repeat(256)] {
            let reply = call(
                &host,
                &Request::Create(Box::new(protocol::rpc::Create {
                    id: id.to_owned(),
                    spec: serde_json::Value::Null,
                    join: Vec::new(),
                    hooks: None,
                    stdio: protocol::stream::Stdio::Pipes {
                        stdin: None,
                        stdout: None,
                        stderr: None,
                    },
                })),
            );
            assert_eq!(code(&reply), Some(ErrorCode::Invalid), "{id:?}");
            let id = id.to_owned();
            let reply = call(&host, &Request::Delete { id, force: true });
            assert_eq!(code(&reply), Some(ErrorCode::NotFound));
        }
    }
}
