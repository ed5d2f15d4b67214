//! What the virtio-fs server can see: a mount namespace that holds the shares and nothing else.
//!
//! ```text
//!   /              tmpfs, read-only, empty but for these mount points
//!   /attach        tmpfs with one mount point for each share, writable: only `attach` and `detach` come here
//!   /shares        the same tmpfs, read-only: the root of the virtio-fs server
//!   /shares/NAME   a share: a detached copy of a mount of the host (nosuid, nodev, perhaps read-only)
//!   /vsock         the directory of the vsock sockets, if there is such a device
//!   /proc/self/fd  the VMM's own descriptors, which the server opens files through
//! ```
//!
//! The shares are detached mounts: copied from the host's namespace before it is left, or by [`attach`] from a process that is
//! still in it. None ever appears in the host's mount table, and all vanish with the VMM.
//!
//! A share is one mount, unless it is to include what the host has mounted below its source. Even then a nested procfs or
//! sysfs is left out: it would give the guest the VMM's memory or the host's kernel.

mod command;
mod mount;
mod name;
mod namespace;
mod running;
mod source;
mod submounts;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub(crate) use command::{Change, HELP};
pub(crate) use name::ShareName;
pub(crate) use namespace::{Layout, enter};
use running::{attach, detach, detach_all};
pub(crate) use source::{Share, Source};

/// Root of the virtio-fs server, once [`enter`] has returned.
pub(crate) const SHARES: &str = "/shares";
/// Where [`enter`] puts the directory of the vsock sockets.
pub(crate) const VSOCK: &str = "/vsock";
const ATTACH: &str = "/attach";
const PROC_FDS: &str = "/proc/self/fd";

/// Why shares could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    /// A name that is not one path component.
    #[error("share name `{0}` is not one path component of 1 to 255 bytes")]
    Name(String),
    /// The source cannot be opened.
    #[error("cannot open {}", path.display())]
    Source {
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of shares is not usable.
    #[error("cannot use the list of shares")]
    List(#[source] Box<crate::config::ConfigError>),
    /// The source is a socket, a device or the like.
    #[error("{} is neither a directory nor a regular file", .0.display())]
    Kind(PathBuf),
    /// The source is not files but the host's kernel.
    #[error("{} is in a file system that controls the host's kernel", .0.display())]
    KernelInterface(PathBuf),
    /// The mount of the source cannot be copied.
    #[error("cannot copy the mount of {}", path.display())]
    Copy {
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More is mounted below the source than one share may include.
    #[error("more than 1024 mounts are below {}", .0.display())]
    TooManyMounts(PathBuf),
    /// The namespace cannot be made.
    #[error("cannot {step}")]
    Namespace {
        /// At what.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such process, or it may not be entered.
    #[error("cannot enter the mount namespace of process {pid}")]
    Enter {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process is something else.
    #[error("process {0} is not a husk-vmm with shares")]
    NotSandbox(u32),
    /// The name is in use.
    #[error("share `{0}` exists")]
    Exists(ShareName),
    /// The name is not in use.
    #[error("share `{0}` does not exist")]
    Missing(ShareName),
    /// The share cannot be put in place or taken away.
    #[error("cannot {step} share `{name}`")]
    Change {
        /// What was tried.
        step: &'static str,
        /// The share.
        name: ShareName,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn at(step: &'static str) -> impl Fn(rustix::io::Errno) -> ShareError {
    move |error| ShareError::Namespace {
        step,
        source: error.into(),
    }
}
