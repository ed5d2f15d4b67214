//! What lives no longer than the connection that asked for it: at its other end is the monitor on the host.

use std::sync::Arc;

use rustix::process::Signal;

use super::process::Process;
use super::{Container, Containers};
use crate::locked;

/// The containers and processes that a connection started.
#[derive(Debug, Default)]
pub(crate) struct Lifelines {
    processes: Vec<Arc<Process>>,
    containers: Vec<Arc<Container>>,
}

impl Lifelines {
    /// A further process.
    pub(super) fn watch(&mut self, process: Arc<Process>) {
        self.processes
            .retain(|process| process.exit().status().is_none());
        self.processes.push(process);
    }

    /// A container.
    pub(super) fn hold(&mut self, container: Arc<Container>) {
        self.containers.push(container);
    }

    /// Ends everything: the connection has closed.
    pub(crate) fn end(self, containers: &Containers) {
        for process in self.processes {
            // One that has ended meanwhile needs no signal.
            process.signal(Signal::KILL).ok();
        }
        for container in self.containers {
            containers.abandon(&container);
        }
    }
}

impl Containers {
    /// Deletes a container by force, unless it has been already: its id may belong to another by now.
    fn abandon(&self, container: &Arc<Container>) {
        let current = locked(&self.by_id).get(&container.id).cloned().flatten();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, container)) {
            return;
        }
        if let Err(failure) = self.delete(&container.id, true) {
            let text = format!("husk-agent: {}", failure.message());
            crate::boot::poweroff::say(&text);
        }
    }
}
