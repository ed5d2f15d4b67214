//! One header block: fixed fields, numbers in octal or base 256, and a checksum.

use thiserror::Error;

/// Everything in an archive is a multiple of this.
pub(crate) const BLOCK: usize = 512;

const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The fields of a header, as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) kind: u8,
    pub(super) target: Vec<u8>,
    pub(super) major: u64,
    pub(super) minor: u64,
}

/// What is wrong with a header.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum HeaderError {
    #[error("the checksum of the header is wrong")]
    Checksum,
    #[error("the field {0} of the header is no number")]
    Number(&'static str),
    #[error("the field {0} of the header is negative")]
    Negative(&'static str),
}

type Result<T> = std::result::Result<T, HeaderError>;

/// Reads a header block; nothing when it is all zeros, which ends an archive.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Header>> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    verify_checksum(block)?;
    let posix = &block[257..263] == b"ustar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    let mut name = text(&block[0..100]).to_vec();
    if posix && block[345] != 0 {
        name = [text(&block[345..500]), b"/", &name].concat();
    }
    let devices = posix || gnu;
    let device = |field, name| {
        if devices {
            unsigned(field, name)
        } else {
            Ok(0)
        }
    };
    Ok(Some(Header {
        name,
        mode: unsigned(&block[100..108], "mode")?,
        uid: unsigned(&block[108..116], "uid")?,
        gid: unsigned(&block[116..124], "gid")?,
        size: unsigned(&block[124..136], "size")?,
        mtime: number(&block[136..148], "mtime")?,
        kind: block[156],
        target: text(&block[157..257]).to_vec(),
        major: device(&block[329..337], "devmajor")?,
        minor: device(&block[337..345], "devminor")?,
    }))
}

/// The sum of all bytes, the checksum's own taken as spaces; some old programs summed signed bytes.
fn verify_checksum(block: &[u8; BLOCK]) -> Result<()> {
    let stored = number(&block[CHECKSUM], "checksum")?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored == unsigned || stored == signed {
        Ok(())
    } else {
        Err(HeaderError::Checksum)
    }
}

/// The bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number that cannot be below zero.
pub(super) fn unsigned(field: &[u8], name: &'static str) -> Result<u64> {
    u64::try_from(number(field, name)?).map_err(|_| HeaderError::Negative(name))
}

/// Octal digits between spaces and NULs, or two's complement when the first bit is set (GNU).
fn number(field: &[u8], name: &'static str) -> Result<i64> {
    let bad = || HeaderError::Number(name);
    let first = *field.first().ok_or_else(bad)?;
    if first & 0x80 != 0 {
        // The first byte holds the mark and six bits below the sign.
        let mut value = i64::from((first << 1).cast_signed() >> 1);
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or_else(bad)? | i64::from(*byte);
        }
        return Ok(value);
    }
    let trimmed = text(field).trim_ascii();
    trimmed.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|value| value + i64::from(byte - b'0'))
            .ok_or_else(bad),
        _ => Err(bad()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0", "x"), Ok(0o644));
        assert_eq!(number(b"  644 \0\0", "x"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "x"), Ok(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0", "x"), Ok(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff", "x"), Ok(-1));
        assert_eq!(number(b"\x80\0\0\0\x02\0\0\0\0\0\0\0", "x"), Ok(2 << 56));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for field in [
            &b"9"[..],
            b"-1",
            b"0x1",
            b"1 2",
            b"\x81\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(
                number(field, "x"),
                Err(HeaderError::Number("x")),
                "{field:?}"
            );
        }
        assert_eq!(unsigned(b"\xff\xff", "x"), Err(HeaderError::Negative("x")));
    }
}
