//! What a container leaves on disk between two commands: `<root>/<id>/`, locked with flock, its files replaced by
//! rename. Nothing read from there is believed: a file can be empty, cut off, or of another version.
//!
//! ```text
//! <root>/<id>/state.json    Record: who serves the container, and how far it has come (this module)
//!             exit.json     how its first process ended; written by the monitor (this module)
//!             shares.json   files of the host that its machine sees for it
//!             s             link to the directory of its sandbox (`sandbox.rs`)
//! ```

mod dir;
mod id;
mod record;
mod sandbox;

pub(crate) use dir::{ContainerDir, Root, StateError, write_exit};
pub(crate) use id::{ContainerId, IdError};
pub(crate) use record::{Exit, HostNamespace, Phase, Record, Status, View};
pub(crate) use sandbox::{LIFE, Life, SandboxDir};
