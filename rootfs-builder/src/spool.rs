//! Unpacks the compression of one layer into a file without a name, and says what it was: what is read from it afterwards
//! is what was verified, whatever happens to the source in the meantime.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use thiserror::Error;

use crate::digest::{Digest, Hashed};
use crate::limits::MAX_ZSTD_WINDOW;

const BUFFER: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Frames of zstd that hold no data: `5x 2a 4d 18`, then a length.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// Compressions that archives of the wild have and no specification of images allows.
const OTHERS: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x02\x21\x4c\x18", "lz4"),
];

/// The unpacked content.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) file: File,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// The digest of it: the `diff_id` of a layer.
    pub(crate) digest: Digest,
    /// Digest and length of what it was unpacked from.
    pub(crate) packed: (Digest, u64),
}

/// Why content cannot be unpacked.
#[derive(Debug, Error)]
pub(crate) enum SpoolError {
    #[error("cannot make a file in {}", directory)]
    Create {
        directory: String,
        source: io::Error,
    },
    #[error("cannot read or unpack the content")]
    Read(#[source] io::Error),
    #[error("cannot write what was unpacked")]
    Write(#[source] io::Error),
    #[error("the content unpacks to more than {0} bytes (--max-size)")]
    TooLarge(u64),
    #[error("the content is compressed with {0}, which images may not be")]
    Compression(&'static str),
}

type Result<T> = std::result::Result<T, SpoolError>;

/// Reads all of `source` into a file in `directory`, at most `limit` bytes, and tells `progress` of the bytes taken.
pub(crate) fn fill(
    source: impl Read,
    directory: &Path,
    limit: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Spool> {
    let file = tempfile::tempfile_in(directory).map_err(|source| {
        let directory = directory.display().to_string();
        SpoolError::Create { directory, source }
    })?;
    let mut packed = BufReader::with_capacity(
        BUFFER,
        Counted {
            source: Hashed::new(source),
            progress,
        },
    );
    let (digest, length) = {
        let mut unpacked = Hashed::new(decoder(&mut packed)?);
        copy(&mut unpacked, &file, limit)?;
        unpacked.finish()
    };
    // What a decoder did not need belongs to the digest all the same.
    io::copy(&mut packed, &mut io::sink()).map_err(SpoolError::Read)?;
    Ok(Spool {
        file,
        length,
        digest,
        packed: packed.into_inner().source.finish(),
    })
}

fn copy(source: &mut impl Read, mut file: &File, limit: u64) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0_u64;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SpoolError::Read(error)),
        };
        total += count as u64;
        if total > limit {
            return Err(SpoolError::TooLarge(limit));
        }
        file.write_all(&buffer[..count])
            .map_err(SpoolError::Write)?;
    }
}

/// Unpacks by what the content begins with: a media type may be wrong, and its digest is verified either way.
fn decoder<'a, R: BufRead + 'a>(packed: &'a mut R) -> Result<Box<dyn Read + 'a>> {
    let start = packed.fill_buf().map_err(SpoolError::Read)?;
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(SpoolError::Compression(name));
    }
    Ok(if start.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(packed))
    } else if start.starts_with(ZSTD) || is_skippable(start) {
        Box::new(Zstd {
            source: Some(packed),
            frame: None,
        })
    } else {
        Box::new(packed)
    })
}

fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..].starts_with(ZSTD_SKIPPABLE)
}

/// Frames of zstd, one after the other.
struct Zstd<R: BufRead> {
    source: Option<R>,
    frame: Option<Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>>,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame that has data; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        let Some(mut source) = self.source.take() else {
            return Ok(false);
        };
        loop {
            let start = source.fill_buf()?;
            if start.is_empty() {
                return Ok(false);
            }
            if !is_skippable(start) {
                break;
            }
            let mut header = [0; 8];
            source.read_exact(&mut header)?;
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let skipped = io::copy(&mut source.by_ref().take(length.into()), &mut io::sink())?;
            if skipped != u64::from(length) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let frame = StreamingDecoder::new_with_max_window_size(source, MAX_ZSTD_WINDOW);
        let frame =
            frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        self.frame = Some(Box::new(frame));
        Ok(true)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                if self.begin()? {
                    continue;
                }
                return Ok(0);
            };
            let count = frame.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.source = self.frame.take().map(|frame| frame.into_inner());
        }
    }
}

/// Tells how many bytes were read.
struct Counted<'a, R> {
    source: R,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        (self.progress)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    fn unpacked(packed: &[u8], limit: u64) -> Result<Vec<u8>> {
        let spool = fill(packed, &std::env::temp_dir(), limit, &|_| {})?;
        assert_eq!(spool.packed, (Digest::of(packed), packed.len() as u64));
        let mut content = vec![0; usize::try_from(spool.length).unwrap()];
        spool.file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(spool.digest, Digest::of(&content));
        Ok(content)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_compression_of_the_specification_is_unpacked() {
        let data = b"some text, some text".repeat(1000);
        assert_eq!(unpacked(&data, 1 << 20).unwrap(), data);
        assert_eq!(unpacked(&gzip(&data), 1 << 20).unwrap(), data);
        assert_eq!(unpacked(&zstd(&data), 1 << 20).unwrap(), data);
        assert_eq!(unpacked(b"", 1 << 20).unwrap(), b"");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let twice = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(unpacked(&twice, 100).unwrap(), b"one two");
        let skipped = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
        let frames = [
            &skipped[..],
            &zstd(b"one "),
            skipped,
            &zstd(b"two"),
            skipped,
        ]
        .concat();
        assert_eq!(unpacked(&frames, 100).unwrap(), b"one two");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(
            unpacked(&bomb, 1 << 20),
            Err(SpoolError::TooLarge(_))
        ));
        let bomb = zstd(&vec![0; 10 << 20]);
        assert!(matches!(
            unpacked(&bomb, 1 << 20),
            Err(SpoolError::TooLarge(_))
        ));
    }

    #[test]
    fn what_is_cut_short_or_broken_is_an_error() {
        let data = b"some text, some other text".repeat(100);
        for packed in [gzip(&data), zstd(&data)] {
            for end in [5, packed.len() / 2, packed.len() - 1] {
                assert!(unpacked(&packed[..end], 1 << 20).is_err(), "{end}");
            }
            let mut broken = packed.clone();
            let middle = broken.len() / 2;
            broken[middle] ^= 0xff;
            assert!(unpacked(&broken, 1 << 20).is_err());
        }
        let garbage = [gzip(&data), b"garbage".to_vec()].concat();
        assert!(unpacked(&garbage, 1 << 20).is_err());
        for (packed, name) in [(&b"\xfd7zXZ\0..."[..], "xz"), (b"BZh91AY", "bzip2")] {
            assert!(
                matches!(unpacked(packed, 100), Err(SpoolError::Compression(found)) if found == name)
            );
        }
    }
}
