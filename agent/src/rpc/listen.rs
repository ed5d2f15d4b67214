//! Accepts connections and gives each call connection a thread of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use protocol::{CALL_PORT, READY_PORT, STREAM_PORT};
use rustix::net::SocketFlags;

use super::serve::serve;
use super::streams::Streams;
use super::vsock;
use crate::container::Containers;

/// Most call connections at once. A container needs three or four.
const MAX_CONNECTIONS: usize = 512;

/// Stack of a thread that serves calls; JSON nests to 128 levels at most.
const SERVE_STACK: usize = 256 << 10;

/// Stack of a thread that accepts connections.
const ACCEPT_STACK: usize = 64 << 10;

/// Pause after a failed accept: the cause (memory, descriptors) does not go away sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves both ports from threads of their own, and returns when connections are accepted.
pub(crate) fn start(containers: &Arc<Containers>) -> io::Result<()> {
    let calls = vsock::listen(CALL_PORT)?;
    let streams = vsock::listen(STREAM_PORT)?;
    let callers = Arc::new(Callers {
        containers: Arc::clone(containers),
        connected: AtomicUsize::new(0),
    });
    // The host is told before anything else is done: it waits.
    if let Ok(connection) = vsock::connect_to_host(READY_PORT) {
        callers.spawn(connection);
    }
    spawn("calls", ACCEPT_STACK, move || {
        accept_calls(&calls, &callers);
    })?;
    let containers = Arc::clone(containers);
    spawn("streams", ACCEPT_STACK, move || {
        accept_streams(&streams, containers.streams());
    })
}

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    stack: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let builder = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack);
    builder.spawn(body).map(drop)
}

fn accept_calls(listener: &OwnedFd, callers: &Arc<Callers>) {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => callers.spawn(connection),
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn accept_streams(listener: &OwnedFd, streams: &Streams) {
    loop {
        if !streams.wait_for_connection(listener) {
            continue;
        }
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => streams.admit(connection),
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// The call connections.
struct Callers {
    containers: Arc<Containers>,
    connected: AtomicUsize,
}

impl Callers {
    /// Serves a connection in a thread of its own, or closes it if there are too many.
    fn spawn(self: &Arc<Self>, connection: OwnedFd) {
        if self.connected.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            self.connected.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let callers = Arc::clone(self);
        let spawned = spawn("call", SERVE_STACK, move || {
            serve(connection, &callers.containers);
            callers.connected.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
