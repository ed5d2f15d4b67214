//! `Resize`: a new size for a process's terminal.

use protocol::rpc::{ErrorCode, Reply};
use protocol::stream::WindowSize;
use rustix::io::Errno;

use super::{Call, Containers, Failure};

impl Containers {
    pub(crate) fn resize(&self, id: &str, exec: Option<&str>, size: WindowSize) -> Call {
        match self.get(id)?.process(exec)?.resize(size) {
            Ok(()) => Ok(Reply::Done {}),
            Err(Errno::NOTTY) => {
                let message = "the process has no terminal".to_owned();
                Err(Failure::new(ErrorCode::WrongState, message))
            }
            Err(errno) => Err(Failure::internal("resize the terminal", &errno)),
        }
    }
}
