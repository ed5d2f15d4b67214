//! What the VMM may still do once a guest runs.
//!
//! The guest is hostile; so the process that serves it gives up, before the first guest instruction, everything that
//! serving does not need. The order matters and is this:
//!
//! 1. `config::check` and the builder open all host paths;
//! 2. [`process`]: no new privileges, no core dumps or ptrace by others, resource limits, own namespaces;
//! 3. `shares::enter`: a mount namespace of its own with an empty root;
//! 4. each thread, first thing: [`thread`]: capabilities down to what its kind needs, then its seccomp filter.
//!
//! A step that fails ends the VMM: there is no unconfined mode.

mod filters;
mod ioctls;
mod privileges;
mod seccomp;

use devices::virtio::fs::prepare_thread;

pub(crate) use privileges::process;

/// Kinds of thread, each with capabilities and a filter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// The main thread: API, signals, and the devices without a thread of their own.
    Main,
    /// A virtual processor.
    Vcpu,
    /// The worker of a virtio-blk device.
    Blk,
    /// The worker of a virtio-net device.
    Net,
    /// The worker of a virtio-fs device: the only one with capabilities.
    Fs,
}

/// Why the VMM could not be confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// A capability set could not be reduced.
    #[error("cannot drop capabilities of the {0:?} thread")]
    Capabilities(ThreadKind, #[source] std::io::Error),
    /// A process attribute could not be set.
    #[error("cannot set {0}")]
    Attribute(&'static str, #[source] std::io::Error),
    /// The filter could not be compiled or installed.
    #[error("cannot install the seccomp filter of the {0:?} thread")]
    Seccomp(ThreadKind, #[source] seccompiler::Error),
    /// The filter's program could not be made.
    #[error("cannot compile the seccomp filter of the {0:?} thread")]
    Filter(ThreadKind, #[source] seccompiler::BackendError),
}

/// Confines the calling thread for good. Called first thing in the thread, by the main thread last.
pub(crate) fn thread(kind: ThreadKind) -> Result<(), ConfineError> {
    if kind == ThreadKind::Fs {
        let name = "the attributes of the fs thread";
        prepare_thread().map_err(|error| ConfineError::Attribute(name, error))?;
    }
    privileges::drop_capabilities(kind)?;
    seccomp::install(kind)
}
