//! `husk run`: create, start, wait, delete.

use std::process::ExitCode;

use super::create::{Side, checked, detach, undo_unless};
use super::image::ImageBundle;
use super::{Context, Result, write_pid_file};
use crate::cli::{CreateArgs, CreateOptions, RunArgs};
use crate::lifecycle::{Force, LifecycleError, delete, start};
use crate::monitor::Signals;
use crate::state::ContainerId;

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    let Some(image) = &args.image else {
        return run_bundle(context, args, args.options.clone());
    };
    // Before an image is unpacked for nothing.
    if let Some(id) = &args.id {
        ContainerId::parse(id)?;
    }
    let bundle = ImageBundle::make(image, &args.arguments)?;
    let options = CreateOptions {
        bundle: Some(bundle.path()),
        ..args.options.clone()
    };
    run_bundle(context, args, options)
}

fn run_bundle(context: &Context, args: &RunArgs, options: CreateOptions) -> Result<ExitCode> {
    let made_up = || format!("image-{}", std::process::id());
    let create = CreateArgs {
        options,
        id: args.id.clone().unwrap_or_else(made_up),
    };
    let id = ContainerId::parse(&create.id)?;
    if !args.detach {
        return run_here(context, &create, &id, args.keep);
    }
    match detach(context, &create)? {
        Side::Monitor(code) => Ok(code),
        Side::Command => {
            let started = start(&context.root, &id, &context.log).map_err(Into::into);
            undo_unless(context, &create.id, started)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// In the foreground this process is the monitor.
fn run_here(
    context: &Context,
    create: &CreateArgs,
    id: &ContainerId,
    keep: bool,
) -> Result<ExitCode> {
    let signals = Signals::take().map_err(LifecycleError::Monitor)?;
    let new = checked(context, create, false)?;
    let serving = new.make(signals, &context.log)?.release();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let started = write_pid_file(create.options.pid_file.as_deref(), pid)
        .and_then(|()| Ok(start(&context.root, id, &context.log)?));
    if started.is_err() {
        drop(serving);
        undo_unless(context, &create.id, started)?;
        return Ok(ExitCode::FAILURE);
    }
    let exit = serving.serve(&context.log)?;
    if !keep {
        // By force: another command may have deleted it already.
        delete(&context.root, id, Force::Yes, &context.log)?;
    }
    Ok(ExitCode::from(exit.code))
}
