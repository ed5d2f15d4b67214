//! Entries one after the other: a header, the extensions before it, and where the content lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use thiserror::Error;

use crate::limits::{MAX_EXTENSION, MAX_PATH};

use super::header::{self, BLOCK, Header, HeaderError};
use super::pax::{Extension, PaxError};
use super::sparse::{self, Contents, Extent, SparseError};

/// Largest size that a header can express in octal; only above it may an extension have to say the size.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// Something that is read by position.
pub(crate) trait ReadAt {
    /// Fills `buffer` from what is at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| end())?;
        let found = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or_else(end)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

/// What an archive says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u64,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970, and nanoseconds after that.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File(Contents),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice { major: u64, minor: u64 },
    BlockDevice { major: u64, minor: u64 },
    Directory,
    Fifo,
}

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub(crate) enum TarError {
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    #[error("the archive goes on after one block of zeros, where two are its end")]
    LoneZeroBlock,
    #[error("the archive has an entry of the unknown type {0:?}")]
    UnknownType(char),
    #[error("an extension of {0} bytes is larger than {MAX_EXTENSION}")]
    LargeExtension(u64),
    #[error("an entry that is no file has {0} bytes of content")]
    Content(u64),
    #[error("header and extension differ on the size: {header} and {extension} bytes")]
    Size { header: u64, extension: u64 },
    #[error("the archive has more than {0} files")]
    TooManyEntries(usize),
    #[error("a name has a NUL byte or more than {MAX_PATH} bytes")]
    Name,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Extension(#[from] PaxError),
    #[error(transparent)]
    Sparse(#[from] SparseError),
}

type Result<T> = std::result::Result<T, TarError>;

/// An archive that is being read.
pub(crate) struct Reader<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    at: u64,
    end: u64,
    /// What global extended headers said; it holds for all entries that follow.
    global: Extension,
}

impl<'a, S: ReadAt + ?Sized> Reader<'a, S> {
    /// An archive of `length` bytes.
    pub(crate) fn new(source: &'a S, length: u64) -> Self {
        Self {
            source,
            at: 0,
            end: length,
            global: Extension::default(),
        }
    }

    /// The next entry, or nothing at the end. A reader that failed must not be used again.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extension = self.global.clone();
        let mut extended = false;
        loop {
            let Some((header, block)) = self.header()? else {
                return if extended {
                    Err(TarError::Truncated)
                } else {
                    Ok(None)
                };
            };
            match header.kind {
                b'x' => extension.read(&self.extension(&header)?)?,
                b'g' => {
                    let data = self.extension(&header)?;
                    self.global.read(&data)?;
                    extension.read(&data)?;
                }
                b'L' => extension.path = Some(self.long_name(&header)?),
                b'K' => extension.target = Some(self.long_name(&header)?),
                _ => return self.entry(header, &block, extension).map(Some),
            }
            extended = header.kind != b'g';
        }
    }

    /// The next header, or nothing at the end of the archive, which may lack its two blocks of zeros.
    fn header(&mut self) -> Result<Option<(Header, [u8; BLOCK])>> {
        if self.at == self.end {
            return Ok(None);
        }
        let block = self.block()?;
        if let Some(header) = header::parse(&block)? {
            return Ok(Some((header, block)));
        }
        if self.at != self.end && header::parse(&self.block()?)?.is_some() {
            return Err(TarError::LoneZeroBlock);
        }
        self.at = self.end;
        Ok(None)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        let start = self.skip(BLOCK as u64)?;
        self.read(&mut block, start)?;
        Ok(block)
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.source
            .read_exact_at(buffer, at)
            .map_err(TarError::Read)
    }

    /// Passes `length` bytes and what fills the last block. Returns where they began.
    fn skip(&mut self, length: u64) -> Result<u64> {
        let start = self.at;
        let whole = length.checked_next_multiple_of(BLOCK as u64);
        let next = whole.and_then(|whole| start.checked_add(whole));
        match next {
            Some(next) if next <= self.end => self.at = next,
            // The last block may be cut short, but not its content.
            _ if start.checked_add(length).is_some_and(|end| end <= self.end) => self.at = self.end,
            _ => return Err(TarError::Truncated),
        }
        Ok(start)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        if header.size > MAX_EXTENSION {
            return Err(TarError::LargeExtension(header.size));
        }
        let start = self.skip(header.size)?;
        let length =
            usize::try_from(header.size).map_err(|_| TarError::LargeExtension(header.size))?;
        let mut data = vec![0; length];
        self.read(&mut data, start)?;
        Ok(data)
    }

    /// The name in an extension of GNU, which ends with a NUL.
    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn entry(
        &mut self,
        header: Header,
        block: &[u8; BLOCK],
        extension: Extension,
    ) -> Result<Entry> {
        let stored = stored_size(&header, extension.size)?;
        let name = extension.sparse.name.clone().or(extension.path.clone());
        let name = checked(name.unwrap_or(header.name))?;
        let target = || checked(extension.target.clone().unwrap_or(header.target.clone()));
        let (major, minor) = (header.major, header.minor);
        let file = matches!(header.kind, b'0' | b'\0' | b'7' | b'S') && !name.ends_with(b"/");
        if !file && stored != 0 {
            return Err(TarError::Content(stored));
        }
        let kind = match header.kind {
            b'0' | b'\0' | b'7' if !file => EntryKind::Directory,
            b'S' => EntryKind::File(self.old_sparse(block, stored)?),
            b'0' | b'\0' | b'7' => EntryKind::File(self.contents(&extension, stored)?),
            b'1' => EntryKind::HardLink(target()?),
            b'2' => EntryKind::Symlink(target()?),
            b'3' => EntryKind::CharDevice { major, minor },
            b'4' => EntryKind::BlockDevice { major, minor },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(TarError::UnknownType(char::from(other))),
        };
        Ok(Entry {
            name,
            kind,
            mode: header.mode,
            uid: extension.uid.unwrap_or(header.uid),
            gid: extension.gid.unwrap_or(header.gid),
            mtime: extension.mtime.unwrap_or((header.mtime, 0)),
            xattrs: extension.xattrs,
        })
    }

    /// The contents of a file, which may be sparse in one of the ways that extended headers tell.
    fn contents(&mut self, extension: &Extension, stored: u64) -> Result<Contents> {
        let records = &extension.sparse;
        if records.map_in_content() {
            let begin = self.at;
            let end = begin.checked_add(stored).ok_or(TarError::Truncated)?;
            let (map, blocks) = sparse::read_map_in_content(|| {
                if self.at >= end {
                    Err(TarError::Truncated)
                } else {
                    self.block()
                }
            })?;
            let taken = blocks * BLOCK as u64;
            let rest = stored.checked_sub(taken).ok_or(TarError::Truncated)?;
            let start = self.skip(rest)?;
            let size = records.size.ok_or(SparseError::Malformed)?;
            return Ok(sparse::contents(&map, size, start, rest)?);
        }
        let start = self.skip(stored)?;
        if let Some(map) = records.map() {
            let size = records.size.ok_or(SparseError::Malformed)?;
            return Ok(sparse::contents(map, size, start, stored)?);
        }
        let whole = Extent {
            offset: 0,
            stored: start,
            length: stored,
        };
        let data = if stored == 0 { Vec::new() } else { vec![whole] };
        Ok(Contents { size: stored, data })
    }

    /// The contents of a sparse file of the old format, whose map may go on in blocks after the header.
    fn old_sparse(&mut self, block: &[u8; BLOCK], stored: u64) -> Result<Contents> {
        let mut map = sparse::Map::new();
        let mut more = sparse::read_old_map(block, true, &mut map)?;
        while more {
            more = sparse::read_old_map(&self.block()?, false, &mut map)?;
        }
        let start = self.skip(stored)?;
        let size = sparse::read_old_size(block)?;
        Ok(sparse::contents(&map, size, start, stored)?)
    }
}

/// The bytes an entry has in the archive. An extension may say what no header can; where it contradicts a header that
/// could have said it, programs differ on where the next entry begins.
fn stored_size(header: &Header, extension: Option<u64>) -> Result<u64> {
    match extension {
        None => Ok(header.size),
        Some(size) if size == header.size || size > MAX_OCTAL_SIZE => Ok(size),
        Some(size) => Err(TarError::Size {
            header: header.size,
            extension: size,
        }),
    }
}

fn checked(name: Vec<u8>) -> Result<Vec<u8>> {
    if name.len() > MAX_PATH || name.contains(&0) {
        return Err(TarError::Name);
    }
    Ok(name)
}
