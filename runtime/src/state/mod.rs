//! What a container leaves on disk between two commands: `<root>/<id>/`, locked with flock, its files replaced by
//! rename. Nothing read from there is believed: a file can be empty, cut off, or of another version.
//!
//! ```text
//! <root>/<id>/state.json    Record: who serves the container, and how far it has come (this module)
//!             exit.json     how its first process ended; written by the monitor (this module)
//!             sandbox.json  config of the virtual machine        vmm.log      what husk-vmm says
//!             v, v_1026     sockets to and from the guest        console.log  the guest's serial port
//! ```

mod dir;
mod id;
mod record;

pub(crate) use dir::{ContainerDir, Root, StateError, write_exit};
pub(crate) use id::{ContainerId, IdError};
pub(crate) use record::{Exit, Phase, Record, Status, View};
