//! Names of images in registries: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, with Docker's defaults.

use std::str::FromStr;

use thiserror::Error;

use crate::digest::Digest;

/// The registry of names that name none, and the host that serves it.
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_SERVER: &str = "registry-1.docker.io";
/// Where that registry keeps what has a single name.
const DEFAULT_PATH: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Longest name and longest tag.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryName {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) tag: String,
    pub(crate) digest: Option<Digest>,
}

/// Text that names no image in a registry.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("'{0}' names no image in a registry")]
pub(crate) struct BadName(String);

impl RegistryName {
    /// The host that answers for the registry.
    pub(crate) fn server(&self) -> String {
        if self.host == DEFAULT_HOST {
            DEFAULT_SERVER.to_owned()
        } else {
            self.host.clone()
        }
    }
}

impl FromStr for RegistryName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadName(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (host, rest) = match rest.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DEFAULT_HOST, rest),
        };
        let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, DEFAULT_TAG));
        let path = if host == DEFAULT_HOST && !path.contains('/') {
            format!("{DEFAULT_PATH}/{path}")
        } else {
            path.to_owned()
        };
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let part = |part: &str| {
            let bytes = part.as_bytes();
            let ends = bytes
                .first()
                .zip(bytes.last())
                .is_some_and(|(first, last)| lower(*first) && lower(*last));
            ends && bytes
                .iter()
                .all(|byte| lower(*byte) || matches!(byte, b'.' | b'_' | b'-'))
        };
        let in_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
        let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fine = host.bytes().all(in_host)
            && host.starts_with(|first: char| first.is_ascii_alphanumeric())
            && host.ends_with(|last: char| last.is_ascii_alphanumeric())
            && path.len() <= MAX_NAME
            && path.split('/').all(part)
            && (1..=MAX_TAG).contains(&tag.len())
            && tag.bytes().all(in_tag)
            && !tag.starts_with(['.', '-']);
        if !fine {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            path,
            tag: tag.to_owned(),
            digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_defaults_of_docker() {
        let read = |text: &str| {
            let name: RegistryName = text.parse().unwrap();
            (name.server(), name.path, name.tag)
        };
        let expected = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            read("alpine"),
            expected("registry-1.docker.io", "library/alpine", "latest")
        );
        assert_eq!(read("a/b:1"), expected("registry-1.docker.io", "a/b", "1"));
        assert_eq!(
            read("localhost:5000/a"),
            expected("localhost:5000", "a", "latest")
        );
        assert_eq!(
            read("r.example/a/b/c:x_1"),
            expected("r.example", "a/b/c", "x_1")
        );
        let digest = Digest::of(b"");
        assert_eq!(
            format!("r.example/a@{digest}")
                .parse::<RegistryName>()
                .unwrap()
                .digest,
            Some(digest)
        );
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            ":",
            "A",
            "a//b",
            "../a",
            "r.example/../a",
            "a:",
            "a:b/c?",
            "a@sha256:0",
            "u@h.x/a",
            "h.x/a b",
            "a:.x",
        ] {
            assert!(text.parse::<RegistryName>().is_err(), "{text:?}");
        }
    }
}
