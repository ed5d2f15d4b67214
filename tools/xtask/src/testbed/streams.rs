//! What flows between L1 and the host: the job's three standard streams and the control port, each a virtio-serial port that is a
//! unix socket on this side.
//!
//! A virtio-serial port says neither "end of file" nor "everything has arrived". So the job's output ends with a token that is drawn
//! anew for each run, and the relay of a stream is done when it has seen the token.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};

/// What a relay reports to the main thread.
pub(super) enum Event {
    /// L1 runs and has received its script.
    Booted,
    /// L1 lives.
    Alive,
    /// All output of one stream has been passed on.
    StreamDone,
    /// The job has ended.
    Exit(i32),
    /// L1 could not run the job.
    Failed(String),
    /// This process was told to end.
    Signal(i32),
    /// Nobody takes our output any more.
    OutputClosed(io::Error),
}

/// The ports, by the names that `guest.sh` uses. The order is that of the sockets in [`Ports`].
pub(super) const PORTS: [&str; 4] = ["control", "stdin", "stdout", "stderr"];
const CHUNK: usize = 64 << 10;
/// What runs on the thread of one port.
type Relay = Box<dyn FnOnce(UnixStream, &Sender<Event>) + Send>;

/// The sockets to which QEMU connects its ports.
pub(super) struct Ports {
    listeners: Vec<UnixListener>,
}

impl Ports {
    /// Listens; QEMU may be started then.
    pub(super) fn listen(dir: &Path) -> Result<Self> {
        let listeners = PORTS.map(|port| UnixListener::bind(dir.join(port)));
        let listeners = listeners.into_iter().collect::<io::Result<_>>();
        Ok(Self {
            listeners: listeners.context("cannot listen for the testbed")?,
        })
    }

    /// Starts the relays, one thread each.
    pub(super) fn relay(self, script: String, token: &str, events: &Sender<Event>) {
        let mut listeners = self.listeners.into_iter();
        let mut start = |relay: Relay| {
            let Some(listener) = listeners.next() else {
                return;
            };
            let events = events.clone();
            thread::spawn(move || {
                if let Ok((stream, _)) = listener.accept() {
                    relay(stream, &events);
                }
            });
        };
        start(Box::new(move |stream, events| {
            // The end of the conversation is the end of L1, which the main thread sees.
            drop(control(&stream, &script, events));
        }));
        start(Box::new(|stream, _| {
            drop(feed(io::stdin().lock(), stream));
        }));
        let token = token.as_bytes().to_vec();
        let for_stderr = token.clone();
        start(Box::new(move |stream, events| {
            finish(copy_to_token(stream, io::stdout().lock(), &token), events);
        }));
        start(Box::new(move |stream, events| {
            finish(
                copy_to_token(stream, io::stderr().lock(), &for_stderr),
                events,
            );
        }));
    }
}

fn control(stream: &UnixStream, script: &str, events: &Sender<Event>) -> Result<()> {
    let mut writer = stream;
    writeln!(writer, "{}", script.len())?;
    writer.write_all(script.as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let event = match line.split_once(' ') {
            None if line == "ready" => Event::Booted,
            None if line == "alive" => Event::Alive,
            Some(("exit", status)) => Event::Exit(status.parse()?),
            Some(("failed", what)) => Event::Failed(what.to_owned()),
            _ => Event::Failed(format!("unknown message {line:?}")),
        };
        events.send(event)?;
    }
    Ok(())
}

fn feed(mut from: impl Read, mut to: UnixStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    // Closing would discard what QEMU has not read yet; ending our direction does not.
    to.shutdown(Shutdown::Write)?;
    io::copy(&mut to, &mut io::sink())?;
    Ok(())
}

fn finish(result: io::Result<bool>, events: &Sender<Event>) {
    let event = match result {
        Ok(true) => Event::StreamDone,
        // L1 ended before its output did; the main thread sees L1's end.
        Ok(false) => return,
        Err(error) => Event::OutputClosed(error),
    };
    drop(events.send(event));
}

/// Copies until the token, which is not copied. False if the input ended without it.
fn copy_to_token(mut from: impl Read, mut to: impl Write, token: &[u8]) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    loop {
        let held = buffer.len();
        buffer.resize(held + CHUNK, 0);
        let count = from.read(&mut buffer[held..]).unwrap_or(0);
        buffer.truncate(held + count);
        if buffer.ends_with(token) {
            buffer.truncate(buffer.len() - token.len());
            to.write_all(&buffer)?;
            to.flush()?;
            return Ok(true);
        }
        let ready = if count == 0 {
            buffer.len()
        } else {
            buffer.len() - held_back(&buffer, token)
        };
        to.write_all(&buffer[..ready])?;
        to.flush()?;
        buffer.drain(..ready);
        if count == 0 {
            return Ok(false);
        }
    }
}

/// How many bytes at the end of `buffer` may be the beginning of the token.
fn held_back(buffer: &[u8], token: &[u8]) -> usize {
    (1..token.len())
        .rev()
        .find(|&length| buffer.ends_with(&token[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its data in pieces of one size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn token_ends_the_stream_and_is_not_copied() {
        for size in 1..12 {
            let mut out = Vec::new();
            let input = Pieces(b"data to to tokto token", size);
            assert!(copy_to_token(input, &mut out, b"token").unwrap());
            assert_eq!(out, b"data to to tokto ");
        }
    }

    #[test]
    fn stream_without_token_is_copied_whole() {
        for size in 1..12 {
            let mut out = Vec::new();
            assert!(!copy_to_token(Pieces(b"broken off: tok", size), &mut out, b"token").unwrap());
            assert_eq!(out, b"broken off: tok");
        }
    }

    #[test]
    fn script_is_announced_and_replies_become_events() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, events) = std::sync::mpsc::channel();
        (&theirs).write_all(b"ready\nalive\nexit 137\n").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        control(&ours, "true\n", &sender).unwrap();
        drop(ours);
        let mut received = String::new();
        (&theirs).read_to_string(&mut received).unwrap();
        assert_eq!(received, "5\ntrue\n");
        assert!(matches!(events.recv(), Ok(Event::Booted)));
        assert!(matches!(events.recv(), Ok(Event::Alive)));
        assert!(matches!(events.recv(), Ok(Event::Exit(137))));
    }
}
