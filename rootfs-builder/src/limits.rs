//! What an image may cost the machine that unpacks it: every number that an image could drive up has a name here.

use clap::Args;

/// Longest name of one file (NAME_MAX of Linux).
pub(crate) const MAX_NAME: usize = 255;
/// Longest path and longest target of a symbolic link (PATH_MAX of Linux, less the NUL).
pub(crate) const MAX_PATH: usize = 4095;
/// Largest value of an extended attribute (XATTR_SIZE_MAX of Linux).
pub(crate) const MAX_XATTR_VALUE: usize = 64 << 10;
/// Largest header extension of one entry: attributes of the largest size, and a path.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Pieces of data in one sparse file.
pub(crate) const MAX_EXTENTS: usize = 64 << 10;
/// Largest manifest or index: the limit of the common registries.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Largest configuration of an image.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// Largest blob that is taken from a registry, packed.
pub(crate) const MAX_BLOB: u64 = 32 << 30;
/// How deep indexes may be nested in each other.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;
/// Files in an archive of an image: blobs and the documents beside them.
pub(crate) const MAX_BLOBS: usize = 10_000;
/// Largest window that a zstd frame may ask for: `zstd --long` needs 128 MiB.
pub(crate) const MAX_ZSTD_WINDOW: u64 = 128 << 20;

/// What an image may hold
#[derive(Args, Clone, Debug)]
pub(crate) struct Limits {
    /// Files, directories and other entries in all layers together
    #[arg(long, value_name = "N", default_value_t = Self::DEFAULT.max_entries, help_heading = "Limits")]
    pub(crate) max_entries: u64,

    /// Bytes that the layers unpack to, all together (K, M, G and T are binary); no file may be longer, holes included
    #[arg(long, value_name = "SIZE", default_value = "64G", value_parser = parse_size, help_heading = "Limits")]
    pub(crate) max_size: u64,

    /// Directories within each other
    #[arg(long, value_name = "N", default_value_t = Self::DEFAULT.max_depth, help_heading = "Limits")]
    pub(crate) max_depth: usize,

    /// Layers of the image
    #[arg(long, value_name = "N", default_value_t = Self::DEFAULT.max_layers, help_heading = "Limits")]
    pub(crate) max_layers: usize,
}

impl Limits {
    /// What holds unless options say otherwise: more than any image in use, less than hurts.
    pub(crate) const DEFAULT: Self = Self {
        max_entries: 1_000_000,
        max_size: 64 << 30,
        max_depth: 256,
        max_layers: 256,
    };
}

/// A number of bytes, perhaps with a binary unit.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a number of bytes, perhaps with K, M, G or T");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("3M"), Ok(3 << 20));
        assert_eq!(parse_size("64G"), Ok(Limits::DEFAULT.max_size));
        for text in ["", "G", "-1", "+1", "1.5G", "x", "99999999999T", "1GB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
