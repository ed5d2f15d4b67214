//! `husk run`: create, start, wait, delete.

use std::process::ExitCode;

use super::create::{Side, checked, detach, undo_unless};
use super::{Context, Result, write_pid_file};
use crate::cli::RunArgs;
use crate::lifecycle::{Force, LifecycleError, delete, start};
use crate::monitor::Signals;
use crate::state::ContainerId;

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    let id = ContainerId::parse(&args.create.id)?;
    if !args.detach {
        return run_here(context, args, &id);
    }
    match detach(context, &args.create)? {
        Side::Monitor(code) => Ok(code),
        Side::Command => {
            let started = start(&context.root, &id, &context.log).map_err(Into::into);
            undo_unless(context, &args.create.id, started)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// In the foreground this process is the monitor.
fn run_here(context: &Context, args: &RunArgs, id: &ContainerId) -> Result<ExitCode> {
    let signals = Signals::take().map_err(LifecycleError::Monitor)?;
    let new = checked(context, &args.create, false)?;
    let serving = new.make(signals, &context.log)?.release();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let started = write_pid_file(args.create.pid_file.as_deref(), pid)
        .and_then(|()| Ok(start(&context.root, id, &context.log)?));
    if started.is_err() {
        drop(serving);
        undo_unless(context, &args.create.id, started)?;
        return Ok(ExitCode::FAILURE);
    }
    let exit = serving.serve(&context.log)?;
    if !args.keep {
        // By force: another command may have deleted it already.
        delete(&context.root, id, Force::Yes, &context.log)?;
    }
    Ok(ExitCode::from(exit.code))
}
