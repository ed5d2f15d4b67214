//! The HTTP API of one machine, on a unix socket (docs/api.md; bodies: `protocol::vmm_api`).
//!
//! Its clients are trusted as the one who started husk-vmm is, but not believed: what they make the VMM hold is bounded, and
//! one that is slow holds up nobody. It never runs on a processor's or a device's thread.

mod caretaker;
mod connection;
mod http;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use routes::Target;
pub(crate) use server::{ApiSocketError, Server};
