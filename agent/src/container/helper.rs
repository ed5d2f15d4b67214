//! The helper: this program under another name, with one thread, which makes one process with libcontainer.

use std::error::Error;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::syscall::syscall::SyscallType;
use protocol::frame;
use protocol::rpc::ErrorCode;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{chroot, fchdir};
use rustix::thread::move_into_link_name_space;

use super::executor::Runner;
use super::launch::receive_descriptors;
use super::order::{Late, Order, Outcome, Task};
use super::seccomp::LateFilter;
use super::{Failure, LIBCONTAINER, late_mounts, late_sysctls};
use crate::network;

/// `argv[0]` of the helper.
pub(crate) const HELPER_NAME: &str = "husk-agent-helper";

/// Descriptors below are standard streams.
const FIRST_FREE: i32 = 3;

/// Carries out the order that comes over standard input.
pub(crate) fn main() -> ExitCode {
    match connect().and_then(answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::boot::poweroff::say(&format!("{HELPER_NAME}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The socket to the agent, out of the way of the container's standard input.
fn connect() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST_FREE)?;
    Ok(UnixStream::from(socket))
}

fn receive_order(socket: &UnixStream) -> io::Result<(Order, [OwnedFd; 3])> {
    let stdio = receive_descriptors(socket)?;
    let order = frame::read(socket).map_err(io::Error::other)?;
    Ok((order, stdio))
}

fn answer(socket: UnixStream) -> io::Result<()> {
    let (order, stdio) = receive_order(&socket)?;
    let socket = Arc::new(socket);
    let outcome = match carry_out(&order, stdio, &socket) {
        Ok(pid) => Outcome::Started { pid },
        Err(failure) => Outcome::Failed {
            code: failure.code,
            message: failure.message,
        },
    };
    // The agent has hung up if the new process has told it already what is wrong.
    drop(frame::write(&*socket, &outcome));
    Ok(())
}

fn carry_out(order: &Order, stdio: [OwnedFd; 3], report: &Arc<UnixStream>) -> Result<i32, Failure> {
    // The agent's own protection from the OOM killer is not for containers; a spec may say otherwise.
    fs::write("/proc/self/oom_score_adj", "0")
        .map_err(|error| Failure::internal("reset oom_score_adj", &error))?;
    let mut runner = Runner {
        report: Arc::clone(report),
        size: order.size,
        capabilities: None,
        filter: None,
        hooks: None,
    };
    match &order.task {
        Task::Create(late) => {
            runner.capabilities = late.capabilities.clone().map(Arc::new);
            runner.hooks = late.hooks.clone().map(Arc::new);
        }
        Task::Exec(process) => runner.filter = late_filter(&order.id, process)?.map(Arc::new),
    }
    let [stdin, stdout, stderr] = stdio;
    let builder = ContainerBuilder::new(order.id.clone(), SyscallType::Linux)
        .with_executor(runner)
        .with_root_path(LIBCONTAINER)
        .map_err(|error| explain(&error))?
        .with_console_socket(order.console.as_deref())
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr);
    match &order.task {
        Task::Create(late) => create(builder, &order.id, late),
        Task::Exec(process) => {
            let tenant = builder
                .as_tenant()
                .with_process(Some(process))
                .with_detach(true)
                .as_sibling(true);
            Ok(tenant.build().map_err(|error| explain(&error))?.as_raw())
        }
    }
}

fn create(builder: ContainerBuilder, id: &str, late: &Late) -> Result<i32, Failure> {
    let container = builder
        .as_init(super::bundle(id))
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| explain(&error))?;
    let pid = container.pid().map_or(0, |pid| pid.as_raw());
    bring_loopback_up(pid).map_err(|error| Failure::internal("set up the network", &*error))?;
    finish(pid, late)?;
    Ok(pid)
}

/// Adds what libcontainer leaves out, in the namespaces of the container.
fn finish(pid: i32, late: &Late) -> Result<(), Failure> {
    let internal = |error: &dyn Error| Failure::internal("enter the container", error);
    if !late.sysctls.is_empty() {
        for kind in ["net", "ipc", "uts"] {
            enter(pid, kind).map_err(|error| internal(&error))?;
        }
        late_sysctls::write(&late.sysctls)?;
    }
    if !late.mounts.is_empty() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &str| openat(CWD, path, flags, Mode::empty());
        let descriptors = open("/proc/self/fd").map_err(|error| internal(&error))?;
        let root = open(&format!("/proc/{pid}/root")).map_err(|error| internal(&error))?;
        let sources = late_mounts::open_sources(&late.mounts)
            .map_err(|error| Failure::caused(ErrorCode::Invalid, &error))?;
        enter(pid, "mnt").map_err(|error| internal(&error))?;
        // Without a mount namespace of its own, a container has at least a root.
        fchdir(root)
            .and_then(|()| chroot("."))
            .map_err(|error| internal(&error))?;
        late_mounts::finish(&late.mounts, &sources, &descriptors)
            .map_err(|error| Failure::caused(ErrorCode::Invalid, &error))?;
    }
    Ok(())
}

/// Joins a namespace of a process.
fn enter(pid: i32, kind: &str) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), None)?)
}

/// If the container has a network namespace of its own: like runc, with a working loopback interface.
fn bring_loopback_up(pid: i32) -> Result<(), Box<dyn Error>> {
    let theirs = format!("/proc/{pid}/ns/net");
    if fs::read_link(&theirs)? != fs::read_link("/proc/self/ns/net")? {
        enter(pid, "net")?;
        network::loopback_up()?;
    }
    Ok(())
}

/// The filter of the container for a further process, whose description is changed accordingly.
fn late_filter(id: &str, file: &Path) -> Result<Option<LateFilter>, Failure> {
    let config = super::bundle(id).join("config.json");
    let spec = Spec::load(config).map_err(|error| Failure::internal("read the spec", &error))?;
    let Some(seccomp) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().clone())
    else {
        return Ok(None);
    };
    let invalid = |error: &dyn Error| Failure::caused(ErrorCode::Invalid, error);
    let text = fs::read(file).map_err(|error| Failure::internal("read the process", &error))?;
    let mut process: Process = serde_json::from_slice(&text).map_err(|error| invalid(&error))?;
    let filter = LateFilter::prepare(seccomp, &mut process);
    let text = serde_json::to_vec(&process).map_err(|error| invalid(&error))?;
    fs::write(file, text).map_err(|error| Failure::internal("write the process", &error))?;
    Ok(Some(filter))
}

fn explain(error: &LibcontainerError) -> Failure {
    let code = match error {
        LibcontainerError::Spec(_)
        | LibcontainerError::InvalidSpec(_)
        | LibcontainerError::MissingSpec(_)
        | LibcontainerError::OtherSerialization(_) => ErrorCode::Invalid,
        _ => ErrorCode::Internal,
    };
    let mut failure = Failure::caused(code, error);
    // The agent removes what is left itself: what libcontainer could not remove is no news.
    if let Some(end) = failure.message.find(". error during cleanup") {
        failure.message.truncate(end);
    }
    failure
}
