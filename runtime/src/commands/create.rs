//! `husk create`.

use std::path::Path;
use std::process::ExitCode;

use super::{CommandError, Context, Result, begin_monitor, refuse_descriptors, write_pid_file};
use crate::chain::chain;
use crate::cli::CreateArgs;
use crate::lifecycle::{Console, Force, LifecycleError, NewContainer, delete, prepare};
use crate::log::Log;
use crate::monitor::{Forked, Report, fork};
use crate::state::ContainerId;

/// Which of the two processes that a detached command becomes this is.
pub(super) enum Side {
    /// The command; the container is made.
    Command,
    /// The monitor; the container has ended.
    Monitor(ExitCode),
}

pub(super) fn create(context: &Context, args: &CreateArgs) -> Result<ExitCode> {
    match detach(context, args)? {
        Side::Command => Ok(ExitCode::SUCCESS),
        Side::Monitor(code) => Ok(code),
    }
}

/// Makes a container whose monitor is a process of its own, and writes that one's id where it is asked for.
pub(super) fn detach(context: &Context, args: &CreateArgs) -> Result<Side> {
    let new = checked(context, args, true)?;
    let pid = match fork().map_err(LifecycleError::from)? {
        Forked::Monitor(report) => return Ok(Side::Monitor(monitor(new, report, &context.log))),
        Forked::Command(waiting) => {
            new.hand_over();
            waiting.ready().map_err(LifecycleError::from)?
        }
    };
    undo_unless(
        context,
        &args.id,
        write_pid_file(args.options.pid_file.as_deref(), pid),
    )?;
    Ok(Side::Command)
}

/// Checks the arguments and the bundle.
pub(super) fn checked(
    context: &Context,
    args: &CreateArgs,
    detached: bool,
) -> Result<NewContainer> {
    refuse_descriptors(args.options.preserve_fds)?;
    let console = Console {
        socket: args.options.console_socket.as_ref(),
        detached,
    };
    let bundle = args.options.bundle.as_deref();
    Ok(prepare(
        &context.root,
        &args.id,
        bundle.map(Path::new),
        console,
        context.driver,
        &context.log,
    )?)
}

/// Removes a container that was made when a later step fails.
pub(super) fn undo_unless(context: &Context, id: &str, step: Result<()>) -> Result<()> {
    let Err(error) = step else { return Ok(()) };
    let id = ContainerId::parse(id)?;
    if let Err(second) = delete(&context.root, &id, Force::Yes, &context.log) {
        context.log.warn(&chain(&second));
    }
    Err(error)
}

fn monitor(new: NewContainer, report: Report, log: &Log) -> ExitCode {
    let made = match begin_monitor(&report).and_then(|signals| new.make(signals, log)) {
        Ok(made) => made,
        Err(error) => {
            report.failed(chain(&error));
            return ExitCode::FAILURE;
        }
    };
    if report.ready().is_err() {
        // The command is gone: dropping the container undoes it.
        return ExitCode::FAILURE;
    }
    match made.release().serve(log) {
        Ok(exit) => ExitCode::from(exit.code),
        Err(error) => {
            log.warn(&chain(&CommandError::from(error)));
            ExitCode::FAILURE
        }
    }
}
