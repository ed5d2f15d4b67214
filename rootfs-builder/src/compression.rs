//! How an initrd is compressed: the formats that husk's guest kernel unpacks (`kernel/config/base.config`).

use std::io::{self, Write};
use std::str::FromStr;

use flate2::GzBuilder;
use thiserror::Error;

/// zstd unpacks at the same speed whatever it cost to pack, so pack well: 19 is the highest level whose window (8 MiB)
/// the kernel accepts everywhere.
const ZSTD_LEVEL: i32 = 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A name that is none of a compression.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("compression '{0}' is none of none, gzip, zstd")]
pub(crate) struct UnknownCompression(String);

impl Compression {
    /// What boots in the fewest instructions (`kernel/README.md`, "The initrd") within the size that is allowed.
    pub(crate) const DEFAULT_NAME: &'static str = "zstd";

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
            Self::Zstd => zstd::stream::copy_encode(data, sink, ZSTD_LEVEL),
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
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
        let packed = compressed(Compression::Zstd, &data);
        assert_eq!(zstd::stream::decode_all(&packed[..]).unwrap(), data);
    }

    #[test]
    fn the_headers_are_those_the_kernel_looks_for_and_have_no_date() {
        let gzip = compressed(Compression::Gzip, b"x");
        assert_eq!(
            (&gzip[..3], &gzip[4..8]),
            (&[0x1f, 0x8b, 8][..], &[0; 4][..])
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
            "compression 'xz' is none of none, gzip, zstd"
        );
    }
}
