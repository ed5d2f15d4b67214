//! The notation of images, as skopeo and Podman have it: `TRANSPORT:WHERE[:WHICH]`.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::digest::{BadDigest, Digest};
use crate::registry::{BadName, RegistryName};

/// Where an image is, and which of the images there it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) transport: Transport,
    text: String,
}

/// The ways in which images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A directory in the layout of OCI.
    OciDirectory(PathBuf, Selection),
    /// The same in a tar archive.
    OciArchive(PathBuf, Selection),
    /// What `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
    /// In a registry.
    Registry(RegistryName),
    /// A directory that is the root file system.
    Directory(PathBuf),
    /// A tar archive of the root file system.
    Tar(PathBuf),
}

/// Which image of a layout: by the name it has there, by its digest, by both, or the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

/// Why text names no image.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ReferenceError {
    #[error(
        "image '{0}' begins with none of oci:, oci-archive:, docker-archive:, docker://, dir:, tar:"
    )]
    Transport(String),
    #[error("image '{text}'")]
    Registry { text: String, source: BadName },
    #[error("image '{0}' names no file")]
    Empty(String),
    #[error("image '{text}' is pinned to no digest")]
    Digest { text: String, source: BadDigest },
}

type Result<T> = std::result::Result<T, ReferenceError>;

impl Reference {
    /// A tar archive of this machine.
    pub(crate) fn tar(path: &Path) -> Self {
        Self {
            transport: Transport::Tar(path.to_owned()),
            text: format!("tar:{}", path.display()),
        }
    }

    /// The same image, where its path is relative to a directory.
    pub(crate) fn below(mut self, directory: &Path) -> Self {
        match &mut self.transport {
            Transport::OciDirectory(path, _)
            | Transport::OciArchive(path, _)
            | Transport::DockerArchive(path, _)
            | Transport::Directory(path)
            | Transport::Tar(path) => *path = directory.join(&path),
            Transport::Registry(_) => {}
        }
        self
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || ReferenceError::Transport(text.to_owned());
        let (transport, rest) = text.split_once(':').ok_or_else(unknown)?;
        let transport = match transport {
            "oci" => {
                let (path, selection) = select(text, rest)?;
                Transport::OciDirectory(path, selection)
            }
            "oci-archive" => {
                let (path, selection) = select(text, rest)?;
                Transport::OciArchive(path, selection)
            }
            "docker-archive" => {
                let (path, name) = match rest.split_once(':') {
                    Some((path, name)) => (path, Some(name.to_owned())),
                    None => (rest, None),
                };
                Transport::DockerArchive(file(text, path)?, name.filter(|name| !name.is_empty()))
            }
            "docker" => {
                let name = rest.strip_prefix("//").ok_or_else(unknown)?;
                let bad = |source| ReferenceError::Registry {
                    text: text.to_owned(),
                    source,
                };
                Transport::Registry(name.parse().map_err(bad)?)
            }
            "dir" => Transport::Directory(file(text, rest)?),
            "tar" => Transport::Tar(file(text, rest)?),
            _ => return Err(unknown()),
        };
        Ok(Self {
            transport,
            text: text.to_owned(),
        })
    }
}

impl Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// A path, and after it perhaps `:TAG` and `@DIGEST`.
fn select(text: &str, rest: &str) -> Result<(PathBuf, Selection)> {
    let (rest, digest) = match rest.rsplit_once("@sha256:") {
        Some((rest, digits)) => {
            let digest = format!("sha256:{digits}").parse();
            let bad = |source| ReferenceError::Digest {
                text: text.to_owned(),
                source,
            };
            (rest, Some(digest.map_err(bad)?))
        }
        None => (rest, None),
    };
    // As elsewhere, a path with a colon cannot be given.
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag.to_owned()).filter(|tag| !tag.is_empty())),
        None => (rest, None),
    };
    Ok((file(text, path)?, Selection { tag, digest }))
}

fn file(text: &str, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Err(ReferenceError::Empty(text.to_owned()));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(text: &str) -> Transport {
        text.parse::<Reference>().unwrap().transport
    }

    #[test]
    fn every_transport_is_read() {
        let none = Selection::default();
        let tagged = Selection {
            tag: Some("v1:2".into()),
            digest: None,
        };
        assert_eq!(
            transport("oci:a/b"),
            Transport::OciDirectory("a/b".into(), none.clone())
        );
        assert_eq!(
            transport("oci:a:v1:2"),
            Transport::OciDirectory("a".into(), tagged)
        );
        assert_eq!(
            transport("oci-archive:x.tar"),
            Transport::OciArchive("x.tar".into(), none)
        );
        let named = Transport::DockerArchive("x".into(), Some("localhost/a:1".into()));
        assert_eq!(transport("docker-archive:x:localhost/a:1"), named);
        assert_eq!(transport("dir:/"), Transport::Directory("/".into()));
        assert_eq!(transport("tar:a:b"), Transport::Tar("a:b".into()));
    }

    #[test]
    fn an_image_is_pinned_by_its_digest() {
        let digest = Digest::of(b"x");
        let Transport::OciDirectory(path, selection) = transport(&format!("oci:a:t@{digest}"))
        else {
            panic!("another transport");
        };
        assert_eq!((path, selection.tag.as_deref()), ("a".into(), Some("t")));
        assert_eq!(selection.digest, Some(digest));
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in ["", "alpine", "oci:", "oci::tag", "dir:", "http://x", "tar:"] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        let error = "oci:a@sha256:xyz".parse::<Reference>().unwrap_err();
        assert!(matches!(error, ReferenceError::Digest { .. }));
    }
}
