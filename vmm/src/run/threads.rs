//! The one place where husk-vmm starts threads.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Stack of a thread: nothing recurses.
const STACK: usize = 256 << 10;

/// Starts a thread that confines itself first.
pub(super) fn spawn(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).stack_size(STACK).spawn(work)
}
