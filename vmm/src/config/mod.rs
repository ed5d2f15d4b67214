//! From the config file to a checked machine: nothing behind this module sees a path or an unchecked number.

mod check;
mod devices;
mod fs;
mod load;
mod net;
mod open;
mod socket_file;
mod spec;

pub(crate) use check::check;
pub(crate) use fs::{FsSpec, shares};
pub(crate) use load::{load, load_shares};
pub(crate) use net::NetSpec;
pub(crate) use socket_file::SocketFile;
pub(crate) use spec::{DeviceSpec, InitrdSpec, Output, VmSpec};

use std::io;
use std::path::PathBuf;

use ::devices::virtio::blk::BackendError;
use ::devices::virtio::net::TapError;

use crate::arch::ImageError;
use crate::shares::ShareError;

/// What is wrong with a config.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any config.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// The file is not the JSON that describes a sandbox.
    #[error("{}: {key}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// JSON path of the value at fault.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A value is not usable.
    #[error("{key}: {problem}")]
    Value {
        /// JSON path of the value.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that the config names could not be opened.
    #[error("{key}: cannot open {path:?}")]
    Open {
        /// JSON path of the value.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no disk.
    #[error("{key}: {path:?}")]
    Disk {
        /// JSON path of the value.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// An interface is not there, or cannot be used.
    #[error("{key}")]
    Tap {
        /// JSON path of the value.
        key: String,
        /// Why.
        #[source]
        source: TapError,
    },
    /// Something cannot be shared.
    #[error("{key}")]
    Share {
        /// JSON path of the value.
        key: String,
        /// Why.
        #[source]
        source: ShareError,
    },
    /// The kernel cannot be booted.
    #[error("boot.kernel: {path:?}")]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ImageError,
    },
}
