//! What the commands do, without their arguments: each is one library call that reads from top to bottom.
//!
//! ```text
//!            create                     start                  program ends
//!  (nothing) ──────► creating ► created ─────► running ───────────────────► stopped ── delete ─► (nothing)
//!                                  │ pause, resume │
//!                                  └─── paused ────┘
//!                        └ any failure undoes everything         delete --force: from any state ┘
//! ```

mod clear;
mod create;
mod delete;
mod error;
mod exec;
mod kill;
mod neighbours;
mod pause;
mod processes;
mod start;
mod update;

pub(crate) use create::{Console, NewContainer, prepare};
pub(crate) use delete::{Force, delete};
pub(crate) use error::LifecycleError;
pub(crate) use exec::{ExecProcess, running};
pub(crate) use kill::kill;
pub(crate) use neighbours::kind_of;
pub(crate) use pause::{pause, resume};
pub(crate) use processes::processes;
pub(crate) use start::start;
pub(crate) use update::update;
