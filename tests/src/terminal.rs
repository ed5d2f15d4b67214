//! A command on a pseudo-terminal, as under a user's hands.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A running command and the keyboard and screen in front of it.
pub struct Terminal {
    child: Child,
    controller: File,
    chunks: Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    /// Starts `command` with a terminal of 24 lines of 80 characters.
    pub fn start(command: &mut Command) -> Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let path = ptsname(&controller, Vec::new())?.into_string()?;
        let terminal: OwnedFd = File::options().read(true).write(true).open(path)?.into();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size)?;
        let child = spawn_on(command, terminal)?;
        let controller = File::from(controller);
        let (sender, chunks) = channel();
        let mut reader = controller.try_clone()?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            controller,
            chunks,
            screen: String::new(),
        })
    }

    /// Types.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.controller.write_all(keys.as_bytes())?)
    }

    /// Resizes the window.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.controller, size)?)
    }

    /// Waits until `text` appears, and forgets the screen up to and with it.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.screen.find(text) {
                self.screen.drain(..at + text.len());
                return Ok(());
            }
            let rest = end.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(rest) {
                Ok(chunk) => self.screen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(error) => bail!(
                    "{text:?} did not appear ({error}); screen: {:?}",
                    self.screen
                ),
            }
        }
    }

    /// Waits for the command's end; returns its exit code.
    pub fn finish(mut self, limit: Duration) -> Result<i32> {
        crate::output::wait(&mut self.child, limit)?
            .code()
            .context("ended by a signal")
    }
}

#[expect(
    unsafe_code,
    reason = "a session of its own must be made between fork and exec"
)]
fn spawn_on(command: &mut Command, terminal: OwnedFd) -> Result<Child> {
    command
        .stdin(Stdio::from(terminal.try_clone()?))
        .stdout(Stdio::from(terminal.try_clone()?));
    command.stderr(Stdio::from(terminal));
    let make_session = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: both calls are async-signal-safe and allocate nothing.
    unsafe { command.pre_exec(make_session) };
    Ok(command.spawn()?)
}
