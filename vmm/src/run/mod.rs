//! The machine while it runs: one thread for each processor, and the main thread for everything else.

mod control;
mod counters;
mod main_loop;
mod operator;
mod outcome;
mod serial_input;
mod signals;
mod threads;
mod vcpu_thread;

pub(crate) use control::{Control, ControlError};
pub(crate) use main_loop::{RunError, run};
pub(crate) use outcome::Outcome;
pub(crate) use signals::EndSignals;
