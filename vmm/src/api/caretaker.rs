//! A process that takes the API's socket away when husk-vmm has ended, however it ended.
//!
//! The VMM cannot: it has left the host's file systems by then, and what would give it a way back to the socket's directory would also let
//! a guest that has taken it over connect to the other sockets there. The caretaker does nothing else, reads nothing that anybody
//! could write, and sees the end of the VMM as the end of a pipe.
#![expect(unsafe_code, reason = "a copy of the process before it has threads")]

use std::ffi::{CStr, CString};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::pipe::{PipeFlags, pipe_with};

/// How `ps` shows it.
const NAME: &CStr = c"husk-vmm-socket";

/// While this is held, the socket stays.
pub(super) struct Caretaker {
    #[expect(dead_code, reason = "held, not read")]
    alive: OwnedFd,
}

impl Caretaker {
    /// Starts it for the socket that was just bound to `path`.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, directory, flags, Mode::empty())?;
        let name = CString::new(path.file_name().unwrap_or_default().as_encoded_bytes())?;
        let socket = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (end, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the child makes system calls only, and never returns from here.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(alive);
                wait(&directory, &end);
                remove(&directory, &name, &socket);
                // SAFETY: ends the child without what the parent has left to do.
                unsafe { libc::_exit(0) }
            }
            _ => Ok(Self { alive }),
        }
    }
}

/// Lets go of everything, so that nobody waits for a pipe's or a terminal's end because of us, until the VMM has ended.
fn wait(directory: &OwnedFd, end: &OwnedFd) {
    // What fails here leaves the caretaker with more than it needs, but able to do its work.
    let _named = rustix::thread::set_name(NAME);
    let _session = rustix::process::setsid();
    let _elsewhere = rustix::process::chdir("/");
    let mut keep = [directory.as_raw_fd(), end.as_raw_fd()].map(i32::cast_unsigned);
    keep.sort_unstable();
    let mut first = 0;
    for kept in keep {
        close(first..kept);
        first = kept + 1;
    }
    close(first..u32::MAX);
    while rustix::io::retry_on_intr(|| rustix::io::read(end, &mut [0; 1]))
        .is_ok_and(|read| read > 0)
    {}
}

fn close(descriptors: Range<u32>) {
    if !descriptors.is_empty() {
        // SAFETY: nothing in this process uses them any more: it is about to wait and end.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                descriptors.start,
                descriptors.end - 1,
                0,
            )
        };
    }
}

/// Removes the socket, unless somebody else has put another one in its place.
fn remove(directory: &OwnedFd, name: &CStr, socket: &Stat) {
    let there = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (socket.st_dev, socket.st_ino)) {
        // There is nobody left to tell of a failure.
        let _removed = unlinkat(directory, name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    fn bound(test: &str) -> (PathBuf, UnixListener, Caretaker) {
        let name = format!("husk-caretaker-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let caretaker = Caretaker::start(&path).unwrap();
        (path, listener, caretaker)
    }

    #[test]
    fn the_socket_stays_as_long_as_the_process_and_no_longer() {
        let (path, _listener, caretaker) = bound("goes");
        sleep(Duration::from_millis(100));
        assert!(path.exists());
        drop(caretaker);
        let start = Instant::now();
        while path.exists() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "it is still there"
            );
            sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_somebody_else_has_put_in_its_place_stays() {
        let (path, _listener, caretaker) = bound("replaced");
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(caretaker);
        sleep(Duration::from_millis(300));
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
        fs::remove_file(&path).unwrap();
        fs::remove_file(path.with_extension("old")).unwrap();
    }
}
