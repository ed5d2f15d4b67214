//! The only epoll of husk-vmm.

use std::io;
use std::os::fd::RawFd;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Waits for file descriptors, each known by a token of the caller's.
///
/// A device with many descriptors (vsock) keeps a poller of its own and gives its worker that one descriptor to watch.
pub struct Poller {
    epoll: Epoll,
}

/// What happened to a watched descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Token given to [`Poller::add`].
    pub token: u64,
    /// Reading will not block: data, end of file or an error.
    pub readable: bool,
    /// Writing will not block: room or an error.
    pub writable: bool,
}

/// What to watch a descriptor for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Readable.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
}

impl Interest {
    /// Readable only.
    pub const READ: Self = Self {
        readable: true,
        writable: false,
    };
    /// Writable only.
    pub const WRITE: Self = Self {
        readable: false,
        writable: true,
    };
    /// Both.
    pub const BOTH: Self = Self {
        readable: true,
        writable: true,
    };
    /// Only errors and hang-ups, which epoll always reports.
    pub const NONE: Self = Self {
        readable: false,
        writable: false,
    };

    fn events(self) -> EventSet {
        let mut events = EventSet::empty();
        events.set(EventSet::IN, self.readable);
        events.set(EventSet::OUT, self.writable);
        events
    }
}

/// Most events taken in one wait.
const BATCH: usize = 32;

impl Poller {
    /// A poller that watches nothing.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
        })
    }

    /// Watches `fd`, level-triggered. The caller removes it before closing it.
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Add,
            fd,
            EpollEvent::new(interest.events(), token),
        )
    }

    /// Changes what `fd` is watched for.
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Modify,
            fd,
            EpollEvent::new(interest.events(), token),
        )
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.epoll
            .ctl(ControlOperation::Delete, fd, EpollEvent::default())
    }

    /// Waits until something is ready or `timeout_ms` have passed (-1: for ever), and replaces `ready` with it.
    pub fn wait(&self, timeout_ms: i32, ready: &mut Vec<Readiness>) -> io::Result<()> {
        let mut events = [EpollEvent::default(); BATCH];
        let count = loop {
            match self.epoll.wait(timeout_ms, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        ready.clear();
        ready.extend(events.iter().take(count).map(|event| {
            let set = event.event_set();
            let failed = set.intersects(EventSet::ERROR | EventSet::HANG_UP);
            Readiness {
                token: event.data(),
                readable: failed || set.contains(EventSet::IN),
                writable: failed || set.contains(EventSet::OUT),
            }
        }));
        Ok(())
    }
}

impl std::os::fd::AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}
