//! Extended headers of POSIX (pax): records of the form `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use super::sparse::SparseRecords;

/// Prefix of the keys that hold extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What is wrong with an extended header.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PaxError {
    #[error("an extended header has a record of a wrong length")]
    Length,
    #[error("an extended header has a record without a key")]
    Key,
    #[error("the record {0} of an extended header has no such value: {1:?}")]
    Value(String, String),
    #[error("the record {0} of an extended header has a NUL byte")]
    Nul(String),
}

type Result<T> = std::result::Result<T, PaxError>;

/// What extended headers say of the entry that follows; the last of two records counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

impl Extension {
    /// Takes up the records of an extended header.
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ');
            let space = space.ok_or(PaxError::Length)?;
            let length: usize = decimal(&data[..space]).ok_or(PaxError::Length)?;
            let record = data.get(space + 1..length).ok_or(PaxError::Length)?;
            let record = record.strip_suffix(b"\n").ok_or(PaxError::Length)?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.filter(|at| *at > 0).ok_or(PaxError::Key)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let name = || String::from_utf8_lossy(key).into_owned();
        let bad = || PaxError::Value(name(), String::from_utf8_lossy(value).into_owned());
        if let Some(attribute) = key.strip_prefix(XATTR) {
            self.xattrs.insert(attribute.to_vec(), value.to_vec());
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(text(key, value)?),
            b"linkpath" => self.target = Some(text(key, value)?),
            b"size" => self.size = Some(decimal(value).ok_or_else(bad)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(bad)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(bad)?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    if key == b"name" {
                        text(key, value)?;
                    }
                    self.sparse.record(key, value).ok_or_else(bad)?;
                }
                // Others (names of users, times of access, comments) say nothing that is kept.
            }
        }
        Ok(())
    }
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    if value.contains(&0) {
        return Err(PaxError::Nul(String::from_utf8_lossy(key).into_owned()));
    }
    Ok(value.to_vec())
}

/// Digits and nothing else.
pub(super) fn decimal<N: FromStr>(text: &[u8]) -> Option<N> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// Seconds since 1970, perhaps negative, perhaps with a fraction; finer than nanoseconds is cut off.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = decimal(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0_u32, |all, digit| all * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        // Nanoseconds count forward from the second before.
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Result<Extension> {
        let mut extension = Extension::default();
        extension.read(data).map(|()| extension)
    }

    #[test]
    fn records_are_taken_up_and_the_last_counts() {
        let data = b"9 path=a\n9 path=b\n10 uid=77\n29 SCHILY.xattr.user.a=b\x00\n=c\n20 comment=no \xff one\n";
        let extension = read(data).unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(extension.uid, Some(77));
        assert_eq!(
            extension.xattrs,
            BTreeMap::from([(b"user.a".to_vec(), b"b\0\n=c".to_vec())])
        );
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        for text in [
            &b""[..],
            b"x",
            b"1.x",
            b"--1",
            b"99999999999999999999",
            b".5",
        ] {
            assert_eq!(time(text), None, "{text:?}");
        }
    }

    #[test]
    fn broken_records_are_refused() {
        for data in [
            &b"x"[..],
            b"5 a=b",
            b"99 path=a\n",
            b"0 path=a\n",
            b"-9 path=a\n",
            b"8 path=a\n",
            b"3 \n",
        ] {
            assert!(read(data).is_err(), "{data:?}");
        }
        assert_eq!(read(b"5 =a\n"), Err(PaxError::Key));
        assert_eq!(read(b"12 path=a\0b\n"), Err(PaxError::Nul("path".into())));
        assert!(matches!(read(b"11 size=-1\n"), Err(PaxError::Value(..))));
    }
}
