//! The one place where husk-vmm starts threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::confine::ThreadKind;

/// Stack of a processor's thread: nothing recurses.
const VCPU_STACK: usize = 256 << 10;
/// Stack of a device's worker, which runs other people's libraries.
const WORKER_STACK: usize = 1 << 20;

/// Starts a thread of `kind`.
pub(super) fn spawn(
    kind: ThreadKind,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let stack = match kind {
        ThreadKind::Main | ThreadKind::Vcpu => VCPU_STACK,
        ThreadKind::Blk | ThreadKind::Net | ThreadKind::Fs => WORKER_STACK,
    };
    Builder::new().name(name).stack_size(stack).spawn(work)
}
