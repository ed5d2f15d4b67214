//! `Wait`: for the end of a process.

use std::sync::Arc;

use super::{Containers, Failure};
use crate::boot::reaper::Exit;

impl Containers {
    /// What to wait for. The caller waits: it also watches its connection.
    pub(crate) fn exit(&self, id: &str, exec: Option<&str>) -> Result<Arc<Exit>, Failure> {
        Ok(Arc::clone(self.get(id)?.process(exec)?.exit()))
    }
}
