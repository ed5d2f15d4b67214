//! Copies between a process's pipes, or pseudo-terminal, and its vsock streams: one thread and one buffer a direction.
//!
//! ```text
//!  stdin   host --half-close--> stream --input--> pipe           the pipe closes when the host's direction ends
//!  output  pipe, or terminal --output--> stream --half-close-->  when the last writer has closed it
//! ```
//!
//! An [`Output`] is dropped when everything the process wrote has been handed to the stream, so that its end is
//! told after its last byte. What a process left running in the background still holds open is not waited for: when
//! the process itself has ended, output ends where the pipe is empty.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::time::Timespec;

use crate::boot::reaper::{Exit, Output};
use crate::rpc::listen::spawn;

/// Bytes in flight in one direction of one stream, beside the pipe's and the socket's own.
const BUFFER: usize = 64 << 10;

/// Stack of a copying thread; the buffer is not on it.
const STACK: usize = 64 << 10;

/// What a terminal's last bytes may take from the slave to the master once the process has ended.
const TERMINAL_GRACE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// What a pipe's may take: they are there already.
const NO_GRACE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What the bytes of the process come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The read end of a pipe.
    Pipe,
    /// The master of a pseudo-terminal.
    Terminal,
}

/// Copies what the process writes to the stream, in a thread of its own.
pub(crate) fn copy_output(
    source: OwnedFd,
    kind: Kind,
    stream: OwnedFd,
    output: Output,
) -> io::Result<()> {
    set_nonblocking(&source)?;
    spawn("stdout", STACK, move || {
        let outcome = drain(&source, kind, &stream, output.exit());
        // Closing the pipe first: a writer that goes on gets SIGPIPE, not a full pipe.
        drop(source);
        let how = match outcome {
            Ok(()) => Shutdown::Write,
            // The host has closed the stream.
            Err(_) => Shutdown::Both,
        };
        // A connection that the host has closed cannot be shut down, and need not be.
        rustix::net::shutdown(&stream, how).ok();
        drop(output);
        drop(stream);
    })
}

/// Copies the stream to the process's input, in a thread of its own.
pub(crate) fn copy_input(stream: OwnedFd, sink: OwnedFd, exit: Arc<Exit>) -> io::Result<()> {
    set_nonblocking(&sink)?;
    spawn("stdin", STACK, move || {
        let outcome = feed(&stream, &sink, &exit);
        drop(sink);
        if outcome.is_err() || exit.status().is_some() {
            // Nobody reads any more: the host's next write fails.
            rustix::net::shutdown(&stream, Shutdown::Read).ok();
        }
    })
}

/// Until the end of the output. Fails if the stream does.
fn drain(source: &OwnedFd, kind: Kind, stream: &OwnedFd, exit: &Exit) -> Result<(), Errno> {
    let grace = match kind {
        Kind::Pipe => NO_GRACE,
        Kind::Terminal => TERMINAL_GRACE,
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        let ended = exit.status().is_some();
        if ended {
            let mut fds = [PollFd::new(source, PollFlags::IN)];
            if poll(&mut fds, Some(&grace))? == 0 {
                return Ok(());
            }
        } else {
            let mut fds = [
                PollFd::new(source, PollFlags::IN),
                PollFd::new(exit.ended(), PollFlags::IN),
            ];
            poll(&mut fds, None)?;
        }
        match rustix::io::read(source, &mut buffer) {
            // A terminal says EIO when its last slave is closed.
            Ok(0) | Err(Errno::IO) => return Ok(()),
            Ok(length) => write_all(stream, &buffer[..length])?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Until the host's direction ends or the process does. Fails if the process closed its input.
fn feed(stream: &OwnedFd, sink: &OwnedFd, exit: &Exit) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        if !ready(stream, PollFlags::IN, exit)? {
            return Ok(());
        }
        let length = match rustix::io::read(stream, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match rustix::io::write(sink, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::AGAIN) => {
                    if !ready(sink, PollFlags::OUT, exit)? {
                        return Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Waits until `fd` is ready; false if the process ended first.
fn ready(fd: &OwnedFd, what: PollFlags, exit: &Exit) -> Result<bool, Errno> {
    let mut fds = [
        PollFd::new(fd, what),
        PollFd::new(exit.ended(), PollFlags::IN),
    ];
    poll(&mut fds, None)?;
    Ok(fds[1].revents().is_empty())
}

/// `poll`, again if interrupted.
fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize, Errno> {
    loop {
        match rustix::event::poll(fds, timeout) {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// To a blocking stream.
fn write_all(stream: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use protocol::rpc::ExitStatus;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn output_is_complete_before_the_end_is_told() {
        let exit = Exit::new().unwrap();
        let (source, process) = pipe();
        let (mut host, stream) = UnixStream::pair().unwrap();
        copy_output(source, Kind::Pipe, stream.into(), exit.output()).unwrap();
        let written = vec![7; 3 << 20];
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let mut read = Vec::new();
            host.read_to_end(&mut read).unwrap();
            read
        });
        let mut process = File::from(process);
        process.write_all(&written).unwrap();
        // A child in the background keeps the pipe open.
        let background = process.try_clone().unwrap();
        drop(process);
        exit.end(ExitStatus::Code(0));
        exit.wait();
        assert_eq!(reader.join().unwrap(), written);
        drop(background);
    }

    #[test]
    fn a_host_that_closes_the_stream_breaks_the_processes_pipe() {
        let exit = Exit::new().unwrap();
        let (source, process) = pipe();
        let (host, stream) = UnixStream::pair().unwrap();
        copy_output(source, Kind::Pipe, stream.into(), exit.output()).unwrap();
        drop(host);
        let mut process = File::from(process);
        let broken = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            process.write_all(&[0; 4096]).err()
        });
        assert_eq!(broken.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn half_closing_the_stream_ends_the_input() {
        let exit = Exit::new().unwrap();
        let (process, sink) = pipe();
        let (mut host, stream) = UnixStream::pair().unwrap();
        copy_input(stream.into(), sink, exit).unwrap();
        let writer = std::thread::spawn(move || {
            host.write_all(&vec![9; 1 << 20]).unwrap();
            host.shutdown(std::net::Shutdown::Write).unwrap();
            host
        });
        let mut read = Vec::new();
        File::from(process).read_to_end(&mut read).unwrap();
        assert_eq!(read, vec![9; 1 << 20]);
        drop(writer.join().unwrap());
    }

    #[test]
    fn a_process_that_closes_its_input_breaks_the_hosts_direction() {
        let exit = Exit::new().unwrap();
        let (process, sink) = pipe();
        let (mut host, stream) = UnixStream::pair().unwrap();
        copy_input(stream.into(), sink, exit).unwrap();
        drop(process);
        let broken = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            host.write_all(&[0; 4096]).err()
        });
        assert_eq!(broken.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_end_of_the_process_ends_its_input() {
        let exit = Exit::new().unwrap();
        let (_process, sink) = pipe();
        let (mut host, stream) = UnixStream::pair().unwrap();
        copy_input(stream.into(), sink, Arc::clone(&exit)).unwrap();
        exit.end(ExitStatus::Code(0));
        let mut rest = Vec::new();
        assert_eq!(host.read_to_end(&mut rest).unwrap(), 0);
    }
}
