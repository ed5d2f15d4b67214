//! The last steps before a container's program runs, done by the new process inside the container.
//!
//! libcontainer calls `validate` once everything is set up, and `exec` when the container is started.

#![expect(
    unsafe_code,
    reason = "SIGPIPE has to be taken back to its default before exec"
)]

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{LinuxCapabilities, Process, Spec};
use libcontainer::syscall::linux::LinuxSyscall;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::{SigHandler, Signal, signal};
use protocol::frame;
use protocol::rpc::ErrorCode;
use protocol::stream::WindowSize;
use rustix::io::Errno;

use super::order::Outcome;
use super::process::window;
use super::program::{self, Unusable};
use super::seccomp::LateFilter;
use super::start_hooks::StartHooks;

/// See the module.
#[derive(Clone)]
pub(super) struct Runner {
    /// The agent listens until the helper has reported; it does not for a container's first program, which runs later.
    pub(super) report: Arc<UnixStream>,
    /// Size to give the terminal before the program can ask.
    pub(super) size: Option<WindowSize>,
    /// What the process is left with, if libcontainer has granted more.
    pub(super) capabilities: Option<Arc<LinuxCapabilities>>,
    /// What libcontainer leaves out for a further process.
    pub(super) filter: Option<Arc<LateFilter>>,
    /// Hooks that come before the program.
    pub(super) hooks: Option<Arc<StartHooks>>,
}

impl Runner {
    /// Tells the agent; false if it no longer listens.
    fn report(&self, problem: &Unusable) -> bool {
        let outcome = Outcome::Failed {
            code: problem.code,
            message: problem.message.clone(),
        };
        frame::write(&*self.report, &outcome).is_ok()
    }

    fn run(&self, spec: &Spec) -> Result<std::convert::Infallible, Unusable> {
        let process = process(spec)?;
        let program = find(process)?;
        if let Some(size) = self.size {
            // A terminal without a size is still a terminal.
            rustix::termios::tcsetwinsize(rustix::stdio::stdin(), window(size)).ok();
        }
        if let Some(capabilities) = &self.capabilities {
            drop_privileges(capabilities, &LinuxSyscall).map_err(|error| Unusable {
                code: ErrorCode::Internal,
                message: format!("cannot drop capabilities: {error}"),
            })?;
        }
        if let Some(filter) = &self.filter {
            filter.apply().map_err(|error| Unusable {
                code: ErrorCode::Internal,
                message: format!("cannot load the seccomp filter: {error}"),
            })?;
        }
        if let Some(hooks) = &self.hooks {
            let environment = process.env().as_deref().unwrap_or_default();
            hooks.run(environment)?;
        }
        let arguments = process.args().as_deref().unwrap_or_default();
        Err(execute(&program, arguments))
    }
}

/// Becomes the program; returns if that fails.
fn execute(program: &Path, arguments: &[String]) -> Unusable {
    let invalid = |_| Unusable {
        code: ErrorCode::Invalid,
        message: "process.args must not contain NUL".to_owned(),
    };
    let c_string = |text: &[u8]| CString::new(text).map_err(invalid);
    let name = match c_string(program.as_os_str().as_bytes()) {
        Ok(name) => name,
        Err(problem) => return problem,
    };
    let arguments: Result<Vec<_>, _> = arguments
        .iter()
        .map(|argument| c_string(argument.as_bytes()))
        .collect();
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(problem) => return problem,
    };
    // A Rust program ignores SIGPIPE, and an ignored signal stays ignored.
    // SAFETY: the default action is no function that could run here.
    let reset = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let errno = match reset.and_then(|_| nix::unistd::execv(&name, &arguments)) {
        Ok(never) => match never {},
        Err(errno) => Errno::from_raw_os_error(errno as i32),
    };
    Unusable {
        code: match errno {
            // The interpreter that it names.
            Errno::NOENT => ErrorCode::ProgramNotFound,
            _ => ErrorCode::ProgramNotExecutable,
        },
        message: format!("exec {}: {}", program.display(), program::text(errno)),
    }
}

impl Executor for Runner {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match process(spec).and_then(find) {
            Ok(_) => Ok(()),
            Err(problem) => {
                // If the agent has gone, so has whoever would read the answer.
                self.report(&problem);
                Err(ExecutorValidationError::ArgValidationError(problem.message))
            }
        }
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match self.run(spec) {
            Ok(never) => match never {},
            Err(problem) => {
                if !self.report(&problem) {
                    end(&problem);
                }
                Err(ExecutorError::Other(problem.message))
            }
        }
    }
}

/// Ends as a program would that could not be run, like runc: with the reason on the container's own standard error.
#[expect(clippy::exit, reason = "libcontainer ends a process with 255")]
fn end(problem: &Unusable) -> ! {
    drop(writeln!(std::io::stderr(), "{}", problem.message));
    std::process::exit(1)
}

fn process(spec: &Spec) -> Result<&Process, Unusable> {
    spec.process().as_ref().ok_or_else(nothing_to_run)
}

fn nothing_to_run() -> Unusable {
    Unusable {
        code: ErrorCode::Invalid,
        message: "process.args must not be empty".to_owned(),
    }
}

fn find(process: &Process) -> Result<PathBuf, Unusable> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let name = arguments.first().ok_or_else(nothing_to_run)?;
    let environment = process.env().as_deref().unwrap_or_default();
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="));
    program::find(name, path)
}
