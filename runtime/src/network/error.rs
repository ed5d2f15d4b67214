//! Why a sandbox does not get the network it asks for.

use std::io;
use std::path::PathBuf;

/// A network that husk cannot or will not give.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The spec shares the host's network namespace.
    #[error("field {field:?}: the host's network is not supported yet")]
    Host {
        /// The field that says so.
        field: String,
    },
    /// The spec joins a network namespace that other processes use.
    #[error("field {field:?}: {path} is used by process {pid}: joining it is not supported yet")]
    Occupied {
        /// The field.
        field: String,
        /// The namespace.
        path: PathBuf,
        /// One of the processes.
        pid: i32,
    },
    /// The namespace cannot be had.
    #[error("field {field:?}: cannot use {path}")]
    Path {
        /// The field.
        field: String,
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor cannot get into its namespace.
    #[error("cannot {action} a network namespace")]
    Enter {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
