//! Bind mounts: what of the host they bring into a guest, and what the guest has itself.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use protocol::sandbox::ShareConfig;

use crate::bundle::Bundle;
use crate::devices;

/// Why a bind mount cannot be made in a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// It names nothing to mount.
    #[error("field \"mounts[{index}].source\" is missing")]
    Missing {
        /// Its place in `mounts`.
        index: usize,
    },
    /// Its source cannot be used.
    #[error("field \"mounts[{index}].source\": cannot use {path}")]
    Unusable {
        /// Its place in `mounts`.
        index: usize,
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its source leads to the host's kernel or to a process of the host.
    #[error(
        "field \"mounts[{index}].source\": {path} is a {kind} of the host, which a guest cannot use"
    )]
    Kind {
        /// Its place in `mounts`.
        index: usize,
        /// The source.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
}

/// Where the source of a bind mount is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory or file of the host, without links in its path.
    Host(PathBuf),
    /// A path in the guest, as its agent sees it.
    Guest(PathBuf),
}

/// Finds the source of the bind mount at `index`. Links are followed, as by the host's kernel under runc.
pub(crate) fn source(mount: &Mount, index: usize, bundle: &Bundle) -> Result<Source, BindError> {
    let source = mount
        .source()
        .as_ref()
        .ok_or(BindError::Missing { index })?;
    let path = bundle.dir.join(source);
    let found = path
        .canonicalize()
        .and_then(|real| Ok((real.metadata()?, real)));
    let (metadata, real) = found.map_err(|source| BindError::Unusable {
        index,
        path: path.clone(),
        source,
    })?;
    // All of the host's devices at once are all of the guest's.
    if real == Path::new("/dev") {
        return Ok(Source::Guest(real));
    }
    if let Some(device) = named_device(&metadata) {
        return Ok(Source::Guest(device));
    }
    match foreign(&metadata) {
        Some(kind) => Err(BindError::Kind { index, path, kind }),
        None => Ok(Source::Host(real)),
    }
}

/// The share that brings a source of the host to the guest.
pub(crate) fn share(mount: &Mount, name: String, source: PathBuf) -> ShareConfig {
    ShareConfig {
        name,
        source,
        read_only: is_read_only(mount),
        recursive: is_recursive(mount),
    }
}

/// Whether a bind mount forbids writing.
pub(crate) fn is_read_only(mount: &Mount) -> bool {
    options(mount).any(|option| option == "ro" || option == "rro")
}

/// Whether a bind mount brings what is mounted below its source, too.
pub(crate) fn is_recursive(mount: &Mount) -> bool {
    options(mount).any(|option| option == "rbind")
}

/// Whether a mount brings something of the host.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || options(mount).any(|option| option == "bind" || option == "rbind")
}

/// A mount's options.
pub(crate) fn options(mount: &Mount) -> impl Iterator<Item = &str> {
    mount.options().iter().flatten().map(String::as_str)
}

/// The guest's device of the name that the host's kernel has for this one. The guest says whether there is one.
fn named_device(metadata: &Metadata) -> Option<PathBuf> {
    if !metadata.file_type().is_char_device() {
        return None;
    }
    let device = metadata.rdev();
    let numbers = (
        rustix::fs::major(device).into(),
        rustix::fs::minor(device).into(),
    );
    let name = devices::name_of(false, numbers)?;
    Some(Path::new("/dev").join(name))
}

/// What a source is that is neither a directory nor a regular file.
fn foreign(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_socket() {
        Some("socket")
    } else if kind.is_fifo() {
        Some("pipe")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("device")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn found(dir: &Path, source_path: &str) -> Result<Source, BindError> {
        let bundle = Bundle {
            dir: dir.to_owned(),
            rootfs: dir.to_owned(),
            spec: oci_spec::runtime::Spec::default(),
            unknown: Vec::new(),
        };
        let mut mount = Mount::default();
        mount.set_source(Some(source_path.into()));
        source(&mount, 3, &bundle)
    }

    #[test]
    fn links_lead_to_what_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        for path in ["link", "real", "./real/../link/."] {
            assert_eq!(found(dir.path(), path).unwrap(), Source::Host(real.clone()));
        }
    }

    #[test]
    fn devices_are_the_guests_own() {
        for device in ["/dev/null", "/dev/tty", "/dev"] {
            let own = found(Path::new("/"), device).unwrap();
            assert_eq!(own, Source::Guest(device.into()));
        }
    }

    #[test]
    fn what_leads_to_the_host_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        for (path, problem) in [
            ("socket", "is a socket of the host"),
            ("dangling", "cannot use"),
        ] {
            let error = found(dir.path(), path).unwrap_err().to_string();
            assert!(error.contains("mounts[3].source"), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }
}
