//! Digests of content: SHA-256 and no other, in the notation of the OCI image specification (`sha256:` and 64 hexadecimal
//! digits). Whatever is read by digest goes through [`Hashed`].

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

const PREFIX: &str = "sha256:";

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

/// Text that is no digest this program knows.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("digest {0:?} is not sha256: and 64 hexadecimal digits")]
pub(crate) struct BadDigest(String);

impl Digest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest and the length of a whole file.
    pub(crate) fn of_file(file: &File) -> io::Result<(Self, u64)> {
        let mut file = file;
        file.rewind()?;
        let mut hashed = Hashed::new(file);
        io::copy(&mut hashed, &mut io::sink())?;
        Ok(hashed.finish())
    }

    /// The digits alone: the name of a blob in a layout.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadDigest(text.to_owned());
        let digits = text.strip_prefix(PREFIX).ok_or_else(bad)?;
        // One notation for one digest: capitals would name another file.
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

/// A reader that knows what passed through it.
pub(crate) struct Hashed<R> {
    source: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    /// The digest of what was read so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// Digest and length of everything that was read.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest(self.hasher.finalize().into()), self.bytes)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_it_was_read() {
        let text = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(Digest::of(b"hello").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"hello")));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let long = format!("sha256:{}", "0".repeat(65));
        let capitals = format!("sha256:{}", "A".repeat(64));
        let other = format!("sha512:{}", "0".repeat(128));
        for text in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &long,
            &capitals,
            &other,
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reader_knows_what_it_read() {
        let mut hashed = Hashed::new(&b"hello"[..]);
        io::copy(&mut hashed, &mut io::sink()).unwrap();
        assert_eq!(hashed.finish(), (Digest::of(b"hello"), 5));
    }
}
