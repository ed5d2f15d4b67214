//! `Exec`: a further process in a container that has not stopped.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::rpc::{ErrorCode, Reply};
use protocol::stream::Stdio;
use rustix::process::Signal;
use serde_json::Value;

use super::order::Task;
use super::process::Process;
use super::{Call, Container, Containers, Failure, Lifelines, MAX_EXECS, Phase, cwd};
use crate::locked;

impl Containers {
    pub(crate) fn exec(
        &self,
        id: &str,
        exec: &str,
        process: Value,
        stdio: &Stdio,
        lifelines: &mut Lifelines,
    ) -> Call {
        super::check_name("process name", exec)?;
        let container = self.get(id)?;
        drop(container.in_phase("created or running", |phase| {
            !matches!(phase, Phase::Paused { .. })
        })?);
        make_room(&mut locked(&container.execs), exec, id)?;
        let started = Arc::new(self.make_process(&container, process, stdio)?);
        let pid = started.pid();
        lifelines.watch(Arc::clone(&started));
        // Another call may have taken the name meanwhile; the loser ends with its lifeline.
        let mut execs = locked(&container.execs);
        make_room(&mut execs, exec, id).inspect_err(|_| {
            started.signal(Signal::KILL).ok();
        })?;
        execs.insert(exec.to_owned(), started);
        Ok(Reply::Started { pid })
    }

    fn make_process(
        &self,
        container: &Container,
        mut process: Value,
        stdio: &Stdio,
    ) -> Result<Process, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(fields) = process.as_object_mut() else {
            let message = "process is not an object".to_owned();
            return Err(Failure::new(ErrorCode::Invalid, message));
        };
        if fields.get("capabilities").is_none_or(Value::is_null) {
            // As in runc, it has what the container's first process has.
            fields.insert("capabilities".to_owned(), container.granted.clone());
        }
        super::create::set_up_process(fields, stdio);
        let file = format!("process-{}.json", NEXT.fetch_add(1, Ordering::Relaxed));
        let file = super::bundle(&container.id).join(file);
        let wiring = self.wire(stdio)?;
        fs::write(&file, process.to_string())
            .map_err(|error| Failure::internal("write the process", &error))?;
        let launched = self.launch(&container.id, Task::Exec(file.clone()), wiring, stdio);
        // In memory, and gone with the container at the latest.
        drop(fs::remove_file(file));
        launched.map_err(|failure| {
            let root = PathBuf::from(format!("/proc/{}/root", container.init.pid()));
            cwd::explain(failure, &root, process.get("cwd").and_then(Value::as_str))
        })
    }
}

/// Refuses a name in use, and drops ended processes when there are too many.
fn make_room(
    execs: &mut HashMap<String, Arc<Process>>,
    exec: &str,
    id: &str,
) -> Result<(), Failure> {
    if execs
        .get(exec)
        .is_some_and(|process| process.exit().status().is_none())
    {
        let message = format!("container {id} has a process {exec}");
        return Err(Failure::new(ErrorCode::AlreadyExists, message));
    }
    if execs.len() >= MAX_EXECS {
        execs.retain(|_, process| process.exit().status().is_none());
    }
    if execs.len() >= MAX_EXECS {
        let message = format!("container {id} runs {MAX_EXECS} processes already");
        return Err(Failure::new(ErrorCode::Invalid, message));
    }
    Ok(())
}
