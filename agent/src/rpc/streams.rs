//! Standard streams that wait for the call which names them.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use protocol::frame;
use protocol::stream::{CLAIM_SECONDS, MAX_UNCLAIMED, StreamHello, StreamReady, StreamToken};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{self, Timeout};
use rustix::time::Timespec;

use crate::locked;

/// Longest the host may take for the first frame of a stream; it sends it as it connects.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unclaimed stream is kept.
const CLAIM: Duration = Duration::from_secs(CLAIM_SECONDS);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    unclaimed: Mutex<HashMap<StreamToken, Unclaimed>>,
}

#[derive(Debug)]
struct Unclaimed {
    connection: OwnedFd,
    since: Instant,
}

impl Streams {
    /// Takes the stream named by a call.
    pub(crate) fn claim(&self, token: StreamToken) -> Option<OwnedFd> {
        let entry = locked(&self.unclaimed).remove(&token)?;
        Some(entry.connection)
    }

    /// Reads a new connection's first frame and keeps it; closes it if that frame is wrong.
    pub(crate) fn admit(&self, connection: OwnedFd) {
        self.drop_expired();
        if set_receive_timeout(&connection, Some(HELLO_TIMEOUT)).is_err() {
            return;
        }
        let socket = File::from(connection);
        let Ok(StreamHello { token }) = frame::read(&socket) else {
            return;
        };
        let mut unclaimed = locked(&self.unclaimed);
        if unclaimed.len() >= MAX_UNCLAIMED || unclaimed.contains_key(&token) {
            return;
        }
        // Under the lock: the host may claim as soon as it has the answer.
        if frame::write(&socket, &StreamReady {}).is_err()
            || set_receive_timeout(&socket, None).is_err()
        {
            return;
        }
        let entry = Unclaimed {
            connection: socket.into(),
            since: Instant::now(),
        };
        unclaimed.insert(token, entry);
    }

    /// Waits until `listener` has a connection, dropping streams whose time is over meanwhile. False if only a stream's
    /// time was over.
    pub(crate) fn wait_for_connection(&self, listener: &OwnedFd) -> bool {
        let timeout = self.drop_expired().map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs() + 1).unwrap_or(i64::MAX),
            tv_nsec: 0,
        });
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Time until the next stream has to be dropped, if there is one.
    fn drop_expired(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut unclaimed = locked(&self.unclaimed);
        unclaimed.retain(|_, entry| now.duration_since(entry.since) < CLAIM);
        let oldest = unclaimed.values().map(|entry| entry.since).min()?;
        Some((oldest + CLAIM).saturating_duration_since(now))
    }
}

fn set_receive_timeout(
    socket: &impl std::os::fd::AsFd,
    timeout: Option<Duration>,
) -> rustix::io::Result<()> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, timeout)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn offer(streams: &Streams, token: u64) -> UnixStream {
        let (host, guest) = UnixStream::pair().unwrap();
        let token = StreamToken(token);
        frame::write(&host, &StreamHello { token }).unwrap();
        streams.admit(guest.into());
        host
    }

    #[test]
    fn a_stream_is_claimed_once() {
        let streams = Streams::default();
        let host = offer(&streams, 5);
        let StreamReady {} = frame::read(&host).unwrap();
        assert!(streams.claim(StreamToken(4)).is_none());
        let mut guest = File::from(streams.claim(StreamToken(5)).unwrap());
        assert!(streams.claim(StreamToken(5)).is_none());
        guest.write_all(b"x").unwrap();
        let mut byte = [0];
        (&host).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn a_token_in_use_and_garbage_are_refused() {
        let streams = Streams::default();
        let first = offer(&streams, 5);
        let StreamReady {} = frame::read(&first).unwrap();
        let second = offer(&streams, 5);
        assert!(frame::read::<StreamReady>(&second).is_err());

        let (mut host, guest) = UnixStream::pair().unwrap();
        host.write_all(&[4, 0, 0, 0, b'n', b'o', b'p', b'e'])
            .unwrap();
        streams.admit(guest.into());
        assert!(frame::read::<StreamReady>(&host).is_err());
        assert!(streams.claim(StreamToken(5)).is_some());
    }

    #[test]
    fn more_streams_than_the_limit_are_refused() {
        let streams = Streams::default();
        let held: Vec<_> = (0..MAX_UNCLAIMED as u64)
            .map(|token| offer(&streams, token))
            .collect();
        let late = offer(&streams, u64::MAX);
        assert!(frame::read::<StreamReady>(&late).is_err());
        drop(held);
    }
}
