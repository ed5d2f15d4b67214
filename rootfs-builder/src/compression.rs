//! How an initrd is compressed: the formats that husk's guest kernel unpacks (`kernel/config/base.config`).

use std::io::{self, Write};
use std::str::FromStr;

use flate2::GzBuilder;
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
}

/// A name that is none of a compression.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("compression '{0}' is none of none, lz4, gzip")]
pub(crate) struct UnknownCompression(String);

impl Compression {
    /// What boots in the fewest instructions (`kernel/README.md`, "The initrd") within the size that is allowed.
    pub(crate) const DEFAULT_NAME: &'static str = "lz4";

    /// Compresses `data` into `sink`. The result is the same every time.
    pub(crate) fn write(self, data: &[u8], mut sink: impl Write) -> io::Result<()> {
        match self {
            Self::None => sink.write_all(data),
            Self::Gzip => {
                // No name and no time in the header: a GzBuilder writes neither unless told.
                let mut encoder = GzBuilder::new().write(sink, flate2::Compression::best());
                encoder.write_all(data)?;
                encoder.finish().map(drop)
            }
            Self::Lz4 => write_lz4(data, sink),
        }
    }
}

fn write_lz4(data: &[u8], mut sink: impl Write) -> io::Result<()> {
    sink.write_all(&LZ4_LEGACY_MAGIC.to_le_bytes())?;
    for block in data.chunks(LZ4_LEGACY_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        sink.write_all(
            &u32::try_from(packed.len())
                .map_err(too_large)?
                .to_le_bytes(),
        )?;
        sink.write_all(&packed)?;
    }
    Ok(())
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "lz4" => Ok(Self::Lz4),
            _ => Err(UnknownCompression(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

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
    fn the_lz4_program_unpacks_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packed.lz4");
        std::fs::write(&path, compressed(Compression::Lz4, b"some text, some text")).unwrap();
        let output = std::process::Command::new("lz4")
            .arg("-dc")
            .arg(&path)
            .output();
        let output = output.expect("lz4 is installed (Debian package lz4)");
        assert_eq!(output.stdout, b"some text, some text");
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
    }

    #[test]
    fn the_default_is_a_compression_and_others_are_named() {
        assert!(Compression::DEFAULT_NAME.parse::<Compression>().is_ok());
        let error = "xz".parse::<Compression>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "compression 'xz' is none of none, lz4, gzip"
        );
    }
}
