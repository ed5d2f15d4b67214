//! One direction of one standard stream: bytes from a source to a sink, never more than a buffer ahead.
//!
//! The caller's descriptors are shared with other processes, so they are never switched to non-blocking: a flow reads
//! and writes only what poll has promised, or asks for it with a flag of the single call.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use rustix::event::PollFlags;
use rustix::fs::{FileType, fstat};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PIPE_BUF, SpliceFlags, splice};

/// Bytes that a flow holds at most.
const BUFFER: usize = 64 << 10;

/// Most bytes that one splice moves.
const SPLICE: usize = 1 << 20;

/// One end of a flow.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The guest's side. Non-blocking: nobody else has it.
    Guest(Rc<UnixStream>),
    /// The caller's side.
    Host(Rc<File>, Kind),
}

/// What the caller's descriptor is, as far as reading and writing without blocking differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pipe: the kernel moves its bytes.
    Pipe,
    /// A socket.
    Socket,
    /// A regular file: never blocks.
    Regular,
    /// A terminal or another device.
    Device,
}

impl End {
    /// A stream to the guest.
    pub(crate) fn guest(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Guest(Rc::new(stream)))
    }

    /// A descriptor of the caller.
    pub(crate) fn host(fd: OwnedFd) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::RegularFile => Kind::Regular,
            _ => Kind::Device,
        };
        Ok(Self::Host(Rc::new(fd.into()), kind))
    }

    fn is_pipe(&self) -> bool {
        matches!(self, Self::Host(_, Kind::Pipe))
    }

    fn is_guest(&self) -> bool {
        matches!(self, Self::Guest(_))
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Guest(stream) => (&**stream).read(buffer),
            Self::Host(file, Kind::Socket) => Ok(recv(&**file, buffer, RecvFlags::DONTWAIT)?.0),
            Self::Host(file, _) => (&**file).read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Guest(stream) => (&**stream).write(bytes),
            Self::Host(file, Kind::Socket) => Ok(send(
                &**file,
                bytes,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            )?),
            Self::Host(file, Kind::Regular) => (&**file).write(bytes),
            // As much as a writable pipe or terminal is sure to take.
            Self::Host(file, _) => (&**file).write(&bytes[..bytes.len().min(PIPE_BUF)]),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Guest(stream) => stream.as_fd(),
            Self::Host(file, _) => file.as_fd(),
        }
    }
}

/// What a flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Source,
    Sink,
}

/// Bytes on their way from a source to a sink.
#[derive(Debug)]
pub(crate) struct Flow {
    source: End,
    sink: End,
    waiting: Waiting,
    buffer: Vec<u8>,
    pending: std::ops::Range<usize>,
    /// The kernel moves the bytes: one end is a pipe, the other is the guest's.
    spliced: bool,
    /// The console: both directions are one connection, which the end of one must not half-close.
    console: bool,
    finished: bool,
}

impl Flow {
    /// A flow of one stream.
    pub(crate) fn new(source: End, sink: End) -> Self {
        let spliced =
            (source.is_pipe() && sink.is_guest()) || (source.is_guest() && sink.is_pipe());
        let (waiting, buffer) = (Waiting::Source, Vec::new());
        Self {
            source,
            sink,
            waiting,
            buffer,
            pending: 0..0,
            spliced,
            console: false,
            finished: false,
        }
    }

    /// One direction of a console.
    pub(crate) fn console(source: End, sink: End) -> Self {
        Self {
            console: true,
            ..Self::new(source, sink)
        }
    }

    /// Whether it carries what the guest says.
    pub(crate) fn is_output(&self) -> bool {
        self.source.is_guest()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether it is held up by the caller's side, which may take its time.
    pub(crate) fn waits_for_host(&self) -> bool {
        self.is_output() && self.waiting == Waiting::Sink
    }

    /// What to poll for.
    pub(crate) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self.waiting {
            Waiting::Source => (self.source.as_fd(), PollFlags::IN),
            Waiting::Sink => (self.sink.as_fd(), PollFlags::OUT),
        }
    }

    /// Moves bytes; what [`Flow::interest`] named is ready.
    pub(crate) fn advance(&mut self) {
        let outcome = if self.spliced {
            self.splice()
        } else {
            self.copy()
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turn(),
            // A terminal whose other side is gone says EIO, a pipe EPIPE.
            Err(_) => self.finish(self.waiting == Waiting::Sink),
        }
    }

    /// What was ready gave nothing: the other end holds the flow up.
    fn turn(&mut self) {
        let full = self.spliced && self.waiting == Waiting::Source;
        let stays_full = !self.spliced && self.waiting == Waiting::Sink;
        self.waiting = if full || stays_full {
            Waiting::Sink
        } else {
            Waiting::Source
        };
    }

    fn splice(&mut self) -> io::Result<()> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&self.source, None, &self.sink, None, SPLICE, flags) {
            Ok(0) => self.finish(false),
            Ok(_) => self.waiting = Waiting::Source,
            // The reader of a pipe or the guest is gone.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => self.finish(true),
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn copy(&mut self) -> io::Result<()> {
        if self.waiting == Waiting::Source {
            self.buffer.resize(BUFFER, 0);
            let count = self.source.read(&mut self.buffer)?;
            if count == 0 {
                self.finish(false);
                return Ok(());
            }
            self.pending = 0..count;
            self.waiting = Waiting::Sink;
            // A guest's or a regular sink needs no promise; others are polled first.
            if !matches!(
                self.sink,
                End::Guest(_) | End::Host(_, Kind::Regular | Kind::Socket)
            ) {
                return Ok(());
            }
        }
        while !self.pending.is_empty() {
            let written = self.sink.write(&self.buffer[self.pending.clone()])?;
            self.pending.start += written;
            if matches!(self.sink, End::Host(_, Kind::Pipe | Kind::Device)) {
                break;
            }
        }
        if self.pending.is_empty() {
            self.waiting = Waiting::Source;
        }
        Ok(())
    }

    /// Tells the guest that its input has ended, or that nobody listens any more. A connection that is gone already
    /// needs to be told nothing.
    fn finish(&mut self, sink_gone: bool) {
        self.finished = true;
        match (&self.source, &self.sink) {
            // The guest's program goes on after its terminal's input ends, as with any terminal.
            (_, End::Guest(_)) if self.console && !sink_gone => {}
            (End::Guest(stream), _) if self.console && sink_gone => {
                drop(stream.shutdown(Shutdown::Both));
            }
            (_, End::Guest(stream)) => drop(stream.shutdown(Shutdown::Write)),
            (End::Guest(stream), _) => drop(stream.shutdown(Shutdown::Read)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, poll};
    use std::thread;

    /// Runs a flow until it has finished.
    fn run(mut flow: Flow) {
        while !flow.is_finished() {
            let (fd, flags) = flow.interest();
            let fd = fd.try_clone_to_owned().unwrap();
            poll(&mut [PollFd::new(&fd, flags)], None).unwrap();
            flow.advance();
        }
    }

    fn megabytes() -> Vec<u8> {
        (0..3_000_001_u32)
            .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
            .collect()
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().unwrap()
    }

    #[test]
    fn input_from_a_pipe_arrives_whole_and_ends() {
        let (reader, writer) = pipe();
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let feed = thread::spawn(move || File::from(writer).write_all(&megabytes()).unwrap());
        let seen = thread::spawn(move || {
            let mut seen = Vec::new();
            guest.read_to_end(&mut seen).unwrap();
            seen
        });
        run(Flow::new(
            End::host(reader).unwrap(),
            End::guest(ours).unwrap(),
        ));
        feed.join().unwrap();
        assert!(seen.join().unwrap() == megabytes());
    }

    #[test]
    fn output_reaches_pipes_sockets_and_files_whole() {
        let (pipe_out, pipe_in) = pipe();
        let (socket_out, socket_in) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        let sinks: [(OwnedFd, Option<OwnedFd>); 3] = [
            (pipe_in, Some(pipe_out)),
            (socket_in.into(), Some(socket_out.into())),
            (file.into(), None),
        ];
        for (sink, reader) in sinks {
            let (ours, mut guest) = UnixStream::pair().unwrap();
            let feed = thread::spawn(move || guest.write_all(&megabytes()).unwrap());
            let seen = reader.map(|reader| {
                thread::spawn(move || {
                    let mut seen = Vec::new();
                    File::from(reader).read_to_end(&mut seen).unwrap();
                    seen
                })
            });
            run(Flow::new(
                End::guest(ours).unwrap(),
                End::host(sink).unwrap(),
            ));
            feed.join().unwrap();
            if let Some(seen) = seen {
                assert!(seen.join().unwrap() == megabytes());
            }
        }
        let length = copy.metadata().unwrap().len();
        assert_eq!(length, megabytes().len() as u64);
    }

    #[test]
    fn a_reader_that_leaves_is_told_to_the_guest() {
        let (reader, writer) = pipe();
        drop(reader);
        let (ours, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(b"x").unwrap();
        run(Flow::new(
            End::guest(ours).unwrap(),
            End::host(writer).unwrap(),
        ));
        assert_eq!(
            guest.write_all(b"y").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn a_slow_reader_holds_the_flow_up_without_blocking_it() {
        let (reader, writer) = pipe();
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let feed = thread::spawn(move || drop(guest.write_all(&megabytes())));
        let mut flow = Flow::new(End::guest(ours).unwrap(), End::host(writer).unwrap());
        while !flow.waits_for_host() {
            let (fd, flags) = flow.interest();
            let fd = fd.try_clone_to_owned().unwrap();
            poll(&mut [PollFd::new(&fd, flags)], None).unwrap();
            flow.advance();
        }
        drop((flow, reader));
        feed.join().unwrap();
    }
}
