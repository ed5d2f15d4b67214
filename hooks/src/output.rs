//! What a hook writes while it runs: kept up to a limit, and read beyond it, so that no hook waits for a reader.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Bytes of one stream that are kept.
pub(crate) const LIMIT: usize = 4096;

/// How long to wait for output before looking whether the hook still runs. Its streams need not close when it ends: a
/// process that it leaves behind may hold them.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

/// One stream.
#[derive(Debug)]
pub(crate) struct Output {
    pipe: Option<File>,
    kept: Vec<u8>,
}

impl Output {
    pub(crate) fn new(pipe: Option<impl Into<OwnedFd>>) -> Self {
        let pipe = pipe.map(|pipe| File::from(pipe.into()));
        let kept = Vec::new();
        Self { pipe, kept }
    }

    /// What was kept; another encoding than UTF-8 is made readable.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    /// Takes what one read gives, which is all that is there if it fits.
    fn take(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; LIMIT];
        let length = pipe.read(&mut buffer)?;
        if length == 0 {
            self.pipe = None;
        }
        let room = LIMIT - self.kept.len();
        self.kept.extend_from_slice(&buffer[..length.min(room)]);
        Ok(())
    }
}

/// Waits a moment for output, and takes it.
pub(crate) fn read(outputs: &mut [Output; 2]) -> io::Result<()> {
    let open = outputs.iter().filter_map(|output| output.pipe.as_ref());
    let mut polled: Vec<_> = open.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
    match poll(&mut polled, Some(&PAUSE)) {
        Err(Errno::INTR) => return Ok(()),
        outcome => outcome?,
    };
    let ready: Vec<_> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
    let open = outputs.iter_mut().filter(|output| output.pipe.is_some());
    for (output, ready) in open.zip(ready) {
        if ready {
            output.take()?;
        }
    }
    Ok(())
}
