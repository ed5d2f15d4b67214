//! Why a container has no cgroup on the host.

use std::io;
use std::path::PathBuf;

use libcgroups::common::{AnyManagerError, CreateCgroupSetupError};

/// A cgroup of the host that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// The host has the hierarchies of version 1, alone or beside an empty one of version 2.
    #[error("host has cgroup v1: husk needs the unified hierarchy (v2) at /sys/fs/cgroup")]
    Version1,
    /// The host has no cgroups where they belong.
    #[error("host has no cgroup2 file system at /sys/fs/cgroup")]
    NotMounted,
    /// The path is not one of systemd's.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
    )]
    NotSystemd {
        /// The path.
        path: String,
    },
    /// The path cannot be written as text.
    #[error("field \"linux.cgroupsPath\": {path:?} is not UTF-8")]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else's processes are in it: deleting this container would end them.
    #[error("container's cgroup {path:?} is not empty: {count} process(es) found")]
    Occupied {
        /// The path.
        path: String,
        /// How many.
        count: usize,
    },
    /// The way to it cannot be opened.
    #[error("unable to set up cgroup {path:?}")]
    Setup {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: Box<CreateCgroupSetupError>,
    },
    /// It cannot be made, entered, limited or removed.
    #[error("unable to {action} cgroup {path:?}")]
    Change {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: Box<AnyManagerError>,
    },
    /// One of its files cannot be used.
    #[error("unable to use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Limits without a cgroup; the words are runc's.
    #[error("rootless needs no limits + no cgrouppath when no permission is granted for cgroups")]
    Rootless(#[source] Box<CgroupError>),
    /// Its processes do not end.
    #[error("unable to remove {path}: processes in it do not end")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}
