//! `WaitOom`: for the kernel to kill a process of a container for want of memory.

use std::fs::File;
use std::os::fd::AsFd;

use protocol::rpc::{ErrorCode, Reply};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::stats::flat_keyed;
use super::{Containers, Failure};

/// The file whose changes the kernel announces to who polls it.
const EVENTS: &str = "memory.events";

impl Containers {
    /// Waits for more kills than `seen`. `None` if the host hangs up before.
    pub(crate) fn wait_oom(&self, connection: &File, id: &str, seen: u64) -> Option<Reply> {
        match self.watch_kills(connection, id, seen) {
            Ok(reply) => reply,
            Err(failure) => Some(failure.into_reply()),
        }
    }

    /// Whether the kernel has ever killed one of its processes for want of memory. A container that is gone has none.
    pub(crate) fn oom_killed(&self, id: &str) -> bool {
        let container = self.get(id).ok();
        let events = container.and_then(|container| container.cgroup.open(EVENTS).ok());
        let kills = events.and_then(|mut events| read_kills(&mut events).ok());
        kills.is_some_and(|kills| kills > 0)
    }

    fn watch_kills(
        &self,
        connection: &File,
        id: &str,
        seen: u64,
    ) -> Result<Option<Reply>, Failure> {
        let container = self.get(id)?;
        let failed = |error: &std::io::Error| Failure::internal("watch the cgroup", error);
        let mut events = container
            .cgroup
            .open(EVENTS)
            .map_err(|error| failed(&error))?;
        let exit = container.init.exit();
        loop {
            let kills = read_kills(&mut events).map_err(|error| failed(&error))?;
            if kills > seen {
                return Ok(Some(Reply::Oom { kills }));
            }
            if exit.status().is_some() {
                let message = format!("container {id} is stopped");
                return Err(Failure::new(ErrorCode::WrongState, message));
            }
            let mut fds = [
                PollFd::new(connection, PollFlags::RDHUP),
                PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI),
                PollFd::new(exit.ended(), PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(&errno.into())),
            }
        }
    }
}

/// `oom_kill`: processes killed in the cgroup and below it.
fn read_kills(events: &mut File) -> std::io::Result<u64> {
    use std::io::{Read, Seek};

    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    Ok(flat_keyed(&text).get("oom_kill").copied().unwrap_or(0))
}
