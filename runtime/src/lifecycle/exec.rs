//! `exec`: a further process in a running container.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Process;
use protocol::rpc::Request;

use super::LifecycleError;
use super::create::console_size;
use crate::agent_client::AgentClient;
use crate::cgroup::{HostCgroup, Membership};
use crate::monitor::{Mode, Monitor, ProcessName, Signals, StdioStreams};
use crate::process::ProcessRef;
use crate::sandbox::SOCKET;
use crate::state::{ContainerId, Exit, Record, Root, Status};

/// A process that is asked for.
#[derive(Debug)]
pub(crate) struct ExecProcess {
    socket: PathBuf,
    machine: OwnedFd,
    id: String,
    process: Process,
    mode: Mode,
    /// The cgroup that the monitor is to be in, if it is not its caller's.
    cgroup: Option<HostCgroup>,
}

/// A process that runs, and what serves it.
#[derive(Debug)]
pub(crate) struct Executed {
    monitor: Monitor,
    /// The connection of the `Exec` call: the agent kills the process when it closes.
    agent: AgentClient,
    machine: OwnedFd,
}

/// The record of a container in which processes can be run.
pub(crate) fn running(
    root: &Root,
    id: &ContainerId,
    ignore_paused: bool,
) -> Result<Record, LifecycleError> {
    let (record, status) = root.read(id)?;
    match status {
        Status::Running | Status::Created => Ok(record),
        // runc's answer to the option is a process that hangs until the container is resumed.
        Status::Paused if ignore_paused => Err(refused(
            "cannot exec in a paused container: a guest starts no process in a frozen cgroup",
        )),
        Status::Paused => Err(refused(
            "cannot exec in a paused container (use --ignore-paused to override)",
        )),
        Status::Stopped => Err(refused("cannot exec in a stopped container")),
        Status::Creating => Err(refused("cannot exec in a container that is being created")),
    }
}

fn refused(text: &str) -> LifecycleError {
    LifecycleError::WrongState(text.to_owned())
}

impl ExecProcess {
    /// A process in the container of `record`.
    pub(crate) fn new(
        root: &Root,
        id: &ContainerId,
        record: &Record,
        process: Process,
        mode: Mode,
        monitor: Membership,
    ) -> Result<Self, LifecycleError> {
        let held = record.vmm.and_then(ProcessRef::hold);
        let machine = held.ok_or_else(|| refused("cannot exec in a stopped container"))?;
        let socket = root.path_of(id).join(SOCKET);
        let cgroup = record.cgroup.as_ref();
        let cgroup = cgroup.filter(|_| monitor == Membership::Container);
        Ok(Self {
            socket,
            machine: machine.into(),
            id: id.to_string(),
            process,
            mode,
            cgroup: cgroup.cloned(),
        })
    }

    /// Runs it; this process is its monitor.
    pub(crate) fn run(self, signals: Signals) -> Result<Executed, LifecycleError> {
        let own = ProcessRef::of(rustix::process::getpid().as_raw_nonzero().get());
        let own = own.map_err(LifecycleError::Monitor)?;
        if let Some(cgroup) = &self.cgroup {
            cgroup.join()?;
        }
        let exec = format!("{}-{}", own.pid, own.start_time);
        let mut agent = AgentClient::connect(&self.socket)?;
        let streams =
            StdioStreams::open(&self.socket, &self.mode, console_size(Some(&self.process)))?;
        let process = serde_json::to_value(&self.process);
        let process = process.map_err(|error| LifecycleError::Monitor(error.into()))?;
        let request = Request::Exec {
            id: self.id.clone(),
            exec: exec.clone(),
            process: Box::new(process),
            stdio: streams.message.clone(),
        };
        agent.started(&request).map_err(LifecycleError::Exec)?;
        let wait = AgentClient::connect(&self.socket)?;
        let name = ProcessName {
            id: self.id,
            exec: Some(exec),
        };
        let monitor = Monitor::new(name, wait, streams, signals)?;
        Ok(Executed {
            monitor,
            agent,
            machine: self.machine,
        })
    }
}

impl Executed {
    /// Serves it to its end.
    pub(crate) fn serve(mut self) -> Exit {
        let exit = self
            .monitor
            .serve(std::os::fd::AsFd::as_fd(&self.machine), &mut self.agent);
        self.monitor.drain(exit);
        exit
    }
}
