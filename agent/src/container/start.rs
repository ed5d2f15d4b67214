//! `Start`: lets the container's first process run its program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use protocol::rpc::Reply;

use super::{Call, Containers, Failure, Phase};

impl Containers {
    pub(crate) fn start(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let mut phase = container.in_phase("created", |phase| phase == Phase::Created)?;
        notify(id).map_err(|error| Failure::internal("start the container", &error))?;
        *phase = Phase::Running;
        Ok(Reply::Done {})
    }
}

/// The waiting process goes on when somebody has connected to its socket and hung up.
fn notify(id: &str) -> io::Result<()> {
    // Through the directory's descriptor: the path itself may be longer than a socket's may be.
    let directory = File::open(super::libcontainer_state(id))?;
    let path = format!("/proc/self/fd/{}/notify.sock", directory.as_raw_fd());
    UnixStream::connect(path)?.write_all(b"start container")
}
