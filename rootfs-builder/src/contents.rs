//! What files hold: read from unpacked layers, from a directory or files of this machine, or from memory.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use thiserror::Error;

use crate::tar::{self, ReadAt};
use crate::tree::Source;

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// Where the contents of a tree come from.
pub(crate) struct Contents {
    layers: Vec<File>,
    directory: Option<OwnedFd>,
    added: Vec<Box<dyn ReadAt>>,
}

/// Why contents cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open {}", path.display())]
pub(crate) struct ContentsError {
    path: PathBuf,
    source: io::Error,
}

impl Contents {
    pub(crate) fn of_layers(layers: Vec<File>) -> Self {
        Self {
            layers,
            directory: None,
            added: Vec::new(),
        }
    }

    pub(crate) fn of_directory(path: &Path) -> Result<Self, ContentsError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = fs::open(path, flags, Mode::empty());
        let directory = directory.map_err(|error| ContentsError {
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self {
            layers: Vec::new(),
            directory: Some(directory),
            added: Vec::new(),
        })
    }

    /// Takes the whole content of a file that is put into the tree.
    pub(crate) fn add(&mut self, content: impl ReadAt + 'static) -> Source {
        self.added.push(Box::new(content));
        Source::Added(self.added.len() - 1)
    }

    /// Calls `sink` with every piece of the data of a file: its offset in the file, and bytes. Holes are left out.
    pub(crate) fn pieces(
        &self,
        source: &Source,
        map: &tar::Contents,
        mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let opened;
        let data: &dyn ReadAt = match source {
            Source::Layer(number) => self.layers.get(*number).ok_or(io::ErrorKind::NotFound)?,
            Source::Host(path) => {
                opened = self.open(path)?;
                &opened
            }
            Source::Added(number) => &**self.added.get(*number).ok_or(io::ErrorKind::NotFound)?,
        };
        let mut buffer = vec![0; BUFFER.min(usize::try_from(map.size).unwrap_or(BUFFER))];
        for extent in &map.data {
            let mut done = 0;
            while done < extent.length {
                let left = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
                let chunk = buffer.len().min(left);
                data.read_exact_at(&mut buffer[..chunk], extent.stored + done)?;
                sink(extent.offset + done, &buffer[..chunk])?;
                done += chunk as u64;
            }
        }
        Ok(())
    }

    /// Calls `sink` with the whole of a file, holes as zeros, in chunks of `size` bytes; the last may be shorter.
    pub(crate) fn chunks(
        &self,
        source: &Source,
        map: &tar::Contents,
        size: usize,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(size);
        let mut at = 0;
        let mut feed = |bytes: &[u8], mut zeros: u64, at: &mut u64| -> io::Result<()> {
            *at += zeros + bytes.len() as u64;
            let mut bytes = bytes;
            while zeros > 0 || !bytes.is_empty() {
                let space = size - chunk.len();
                if zeros > 0 {
                    let count = space.min(usize::try_from(zeros).unwrap_or(space));
                    chunk.resize(chunk.len() + count, 0);
                    zeros -= count as u64;
                } else {
                    let (now, later) = bytes.split_at(space.min(bytes.len()));
                    chunk.extend_from_slice(now);
                    bytes = later;
                }
                if chunk.len() == size {
                    sink(&chunk)?;
                    chunk.clear();
                }
            }
            Ok(())
        };
        self.pieces(source, map, |offset, bytes| {
            feed(bytes, offset - at, &mut at)
        })?;
        let rest = map.size - at;
        feed(&[], rest, &mut at)?;
        if chunk.is_empty() {
            Ok(())
        } else {
            sink(&chunk)
        }
    }

    /// A file below the directory that a tree was read from; no link leads out of it.
    fn open(&self, path: &Path) -> io::Result<File> {
        let directory = self.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(fs::openat2(directory, path, flags, Mode::empty(), resolve)?.into())
    }
}
