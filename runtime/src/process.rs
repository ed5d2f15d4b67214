//! Processes that outlive a command: named by pid and start time on disk, held by pidfd in memory, so that no signal
//! ever reaches a stranger that was given the same pid.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How long a monitor gets to end by itself after its container has, and a killed process to be gone.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(10);

/// Names one process for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    /// Process id.
    pub(crate) pid: i32,
    /// Start, in clock ticks after boot (`/proc/<pid>/stat`, field 22).
    pub(crate) start_time: u64,
}

/// A process that cannot be confused with another.
#[derive(Debug)]
pub(crate) struct Held {
    pidfd: OwnedFd,
}

impl ProcessRef {
    /// The process that has `pid` now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_time: start_time(pid)?,
        })
    }

    /// Holds the process; nothing if it has ended, even if its parent has not noticed yet.
    pub(crate) fn hold(self) -> Option<Held> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Read after the pidfd is open: the pid cannot change hands in between.
        let same = start_time(self.pid).is_ok_and(|start| start == self.start_time);
        let held = Held { pidfd };
        (same && !held.wait(Duration::ZERO)).then_some(held)
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        self.hold().is_some()
    }
}

impl Held {
    /// Sends a signal. A process that has just ended needs none.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only other failure is a lack of permission, which shows when the process does not end.
        let _outcome = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end; false if it still runs after `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        wait_readable(self.pidfd.as_fd(), limit)
    }

    /// Kills it, and waits for [`END_LIMIT`] until it is gone.
    pub(crate) fn end(&self) {
        self.signal(Signal::KILL);
        self.wait(END_LIMIT);
    }
}

impl From<Held> for OwnedFd {
    fn from(held: Held) -> Self {
        held.pidfd
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Does something after `moving` to where this process must not be itself: its own place is what engines look at. So a thread
/// goes, and ends there.
pub(crate) fn elsewhere<T: Send>(
    moving: impl FnOnce() -> io::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let thread = || moving().map(|()| work());
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new().spawn_scoped(scope, thread)?;
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// All process ids that there are now.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes that have `path` as one of their arguments.
pub(crate) fn find_by_argument(path: &Path) -> Vec<Held> {
    find(|pid| has_argument(pid, path.as_os_str()))
}

/// Other processes that have `argument` among their arguments, and `file` open.
pub(crate) fn find_by_open_file(argument: &str, file: &Path) -> Vec<Held> {
    let Ok(wanted) = file.metadata() else {
        return Vec::new();
    };
    let is_it =
        |metadata: Metadata| (metadata.dev(), metadata.ino()) == (wanted.dev(), wanted.ino());
    let has_it = |pid: i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut files = files.flatten().flatten();
        files.any(|open| fs::metadata(open.path()).is_ok_and(is_it))
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    find(|pid| pid != own && has_argument(pid, argument.as_ref()) && has_it(pid))
}

fn has_argument(pid: i32, wanted: &OsStr) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == wanted.as_bytes())
}

/// Asked twice: a pid may change hands between the first answer and the start time.
fn find(wanted: impl Fn(i32) -> bool) -> Vec<Held> {
    let found = pids().filter(|pid| wanted(*pid));
    let refs = found.filter_map(|pid| ProcessRef::of(pid).ok().filter(|_| wanted(pid)));
    refs.filter_map(ProcessRef::hold).collect()
}

/// Waits until `fd` can be read; false after `limit`.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let timeout = Timespec::try_from(limit).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    });
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The command name, field 2, may itself contain spaces and brackets.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    fn own() -> ProcessRef {
        ProcessRef::of(id().try_into().unwrap()).unwrap()
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse_the_parser() {
        let fields: Vec<String> = (3..30).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b (c) {}", fields.join(" "));
        assert_eq!(parse_start_time(&stat), Some(22));
    }

    #[test]
    fn a_reused_pid_is_not_held() {
        let stranger = ProcessRef {
            start_time: own().start_time + 1,
            ..own()
        };
        assert!(own().is_alive());
        assert!(!stranger.is_alive());
    }

    #[test]
    fn a_process_is_found_by_its_argument() {
        let path = format!("/nowhere/{}/sandbox.json", id());
        let script = "read line";
        let mut child = Command::new("sh")
            .args(["-c", script, &path])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // A process that is being executed has no arguments for a moment.
        let found = loop {
            let found = find_by_argument(Path::new(&path));
            if !found.is_empty() {
                break found;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].wait(Duration::ZERO));
        assert!(find_by_argument(Path::new(&path)).is_empty());
    }

    #[test]
    fn a_process_is_found_by_what_it_has_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let argument = format!("found-by-{}", id());
        let mut child = Command::new("sh")
            .args(["-c", "read line", &argument])
            .stdin(std::process::Stdio::piped())
            .stdout(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let found = loop {
            let found = find_by_open_file(&argument, file.path());
            if !found.is_empty() {
                break found;
            }
        };
        let other = find_by_open_file("other", file.path());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(other.is_empty());
        assert!(find_by_open_file(&argument, file.path()).is_empty());
    }

    #[test]
    fn a_zombie_counts_as_ended() {
        let mut child = Command::new("true").spawn().unwrap();
        let child_ref = ProcessRef::of(child.id().try_into().unwrap()).unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(wait_readable(pidfd.as_fd(), Duration::from_secs(10)));
        assert!(!child_ref.is_alive());
        child.wait().unwrap();
    }
}
