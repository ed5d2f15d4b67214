//! How an initrd is compressed. husk's guest kernel unpacks none, gzip and lz4 (`kernel/config/base.config`), others zstd too.

use std::io::{self, Read, Write};
use std::str::FromStr;

use flate2::GzBuilder;
use ruzstd::encoding::{CompressionLevel, FrameCompressor};
use thiserror::Error;

/// Begins the "legacy" frame of LZ4, the only one that the kernel unpacks (lib/decompress_unlz4.c).
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;

/// What each block of that frame unpacks to, but for the last.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Lz4,
    Zstd,
}

/// A name that is none of a compression.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("compression '{0}' is none of none, lz4, gzip, zstd")]
pub(crate) struct UnknownCompression(String);

impl Compression {
    /// What boots in the fewest instructions (`kernel/README.md`, "The initrd") within the size that is allowed.
    pub(crate) const DEFAULT_NAME: &'static str = "lz4";

    /// Compresses all of `source` into `sink`. The result is the same every time.
    pub(crate) fn write(self, mut source: impl Read, mut sink: impl Write) -> io::Result<()> {
        match self {
            Self::None => io::copy(&mut source, &mut sink).map(drop),
            Self::Gzip => {
                // No name and no time in the header: a GzBuilder writes neither unless told.
                let mut encoder = GzBuilder::new().write(sink, flate2::Compression::best());
                io::copy(&mut source, &mut encoder)?;
                encoder.finish().map(drop)
            }
            Self::Lz4 => write_lz4(source, sink),
            Self::Zstd => write_zstd(source, sink),
        }
    }
}

fn write_lz4(mut source: impl Read, mut sink: impl Write) -> io::Result<()> {
    sink.write_all(&LZ4_LEGACY_MAGIC.to_le_bytes())?;
    let mut block = Vec::with_capacity(LZ4_LEGACY_BLOCK);
    loop {
        block.clear();
        let most = source.by_ref().take(LZ4_LEGACY_BLOCK as u64);
        if { most }.read_to_end(&mut block)? == 0 {
            return Ok(());
        }
        let packed = lz4_flex::block::compress(&block);
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let length = u32::try_from(packed.len()).map_err(too_large)?;
        sink.write_all(&length.to_le_bytes())?;
        sink.write_all(&packed)?;
    }
}

/// One frame, as the kernel unpacks it. The compressor panics where reading or writing fails, so it is told of no failure.
fn write_zstd(source: impl Read, sink: impl Write) -> io::Result<()> {
    let (mut source, mut sink) = (Sure::new(source), Sure::new(sink));
    let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
    compressor.set_source(&mut source);
    compressor.set_drain(&mut sink);
    compressor.compress();
    source.failure.map_or(Ok(()), Err)?;
    sink.failure.map_or(Ok(()), Err)
}

/// Keeps the first failure; afterwards there is nothing more to read, and what is written is dropped.
struct Sure<T> {
    inner: T,
    failure: Option<io::Error>,
}

impl<T> Sure<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            failure: None,
        }
    }
}

impl<T: Read> Read for Sure<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.failure.is_some() {
                return Ok(0);
            }
            match self.inner.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failure = Some(error),
            }
        }
    }
}

impl<T: Write> Write for Sure<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_none() {
            self.failure = self.inner.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failure.is_none() {
            self.failure = self.inner.flush().err();
        }
        Ok(())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(UnknownCompression(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(kind: Compression, data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        kind.write(data, &mut packed).unwrap();
        packed
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let data: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        assert_eq!(compressed(Compression::None, &data), data);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&compressed(Compression::Gzip, &data)[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, data);
        assert_eq!(unpack_lz4(&compressed(Compression::Lz4, &data)), data);
        let packed = compressed(Compression::Zstd, &data);
        assert!(packed.len() < data.len());
        let mut unpacked = Vec::new();
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap();
        decoder.read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, data);
    }

    /// A device on which nothing can be read, or written after so many bytes.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::Error::other("full"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_fails_is_told() {
        let data: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        for kind in [
            Compression::None,
            Compression::Gzip,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let error = kind.write(Broken(0), io::sink()).unwrap_err();
            assert_eq!(error.to_string(), "broken", "{kind:?}");
            for space in [0, 10, 1000] {
                let error = kind.write(&data[..], Broken(space)).unwrap_err();
                assert_eq!(error.to_string(), "full", "{kind:?} {space}");
            }
        }
    }

    /// Reads a legacy frame as the kernel does: magic, then blocks until the end.
    fn unpack_lz4(packed: &[u8]) -> Vec<u8> {
        let (magic, mut rest) = packed.split_at(4);
        assert_eq!(magic, LZ4_LEGACY_MAGIC.to_le_bytes());
        let mut unpacked = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (block, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            unpacked.extend(lz4_flex::block::decompress(block, LZ4_LEGACY_BLOCK).unwrap());
            rest = after;
        }
        unpacked
    }

    #[test]
    fn lz4_blocks_are_no_larger_than_the_kernel_unpacks() {
        let data = vec![7; 2 * LZ4_LEGACY_BLOCK + 1];
        assert!(unpack_lz4(&compressed(Compression::Lz4, &data)) == data);
    }

    #[test]
    fn the_programs_of_the_formats_unpack_it() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, program) in [
            (Compression::Gzip, "gzip"),
            (Compression::Lz4, "lz4"),
            (Compression::Zstd, "zstd"),
        ] {
            let path = dir.path().join(format!("packed.{program}"));
            std::fs::write(&path, compressed(kind, b"some text, some text")).unwrap();
            let input = std::fs::File::open(&path).unwrap();
            let output = std::process::Command::new(program)
                .arg("-dc")
                .stdin(input)
                .output();
            let output = output.expect("the program is installed, by Debian's package of its name");
            assert_eq!(output.stdout, b"some text, some text", "{program}");
        }
    }

    #[test]
    fn the_headers_are_those_the_kernel_looks_for_and_have_no_date() {
        let gzip = compressed(Compression::Gzip, b"x");
        assert_eq!(
            (&gzip[..3], &gzip[4..8]),
            (&[0x1f, 0x8b, 8][..], &[0; 4][..])
        );
        assert_eq!(
            compressed(Compression::Lz4, b"x")[..4],
            [0x02, 0x21, 0x4c, 0x18]
        );
        assert_eq!(
            compressed(Compression::Zstd, b"x")[..4],
            [0x28, 0xb5, 0x2f, 0xfd]
        );
    }

    #[test]
    fn the_default_is_a_compression_and_others_are_named() {
        assert!(Compression::DEFAULT_NAME.parse::<Compression>().is_ok());
        let error = "xz".parse::<Compression>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "compression 'xz' is none of none, lz4, gzip, zstd"
        );
    }
}
