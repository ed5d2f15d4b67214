//! `husk`: runs OCI containers, each in a virtual machine of its own, with runc's command line.
//!
//! A thin client: `husk-vmm` runs the machine, `husk-agent` the containers in it. `create` reads top to bottom:
//! `bundle` -> `state` (the id is claimed) -> `translate` and `sandbox/plan` -> `sandbox/launch` -> `agent_client` ->
//! `monitor`, which stays.

mod agent_client;
mod annotations;
mod binds;
mod bundle;
mod cgroup;
mod chain;
mod cli;
mod clock;
mod commands;
mod cpu_weight;
mod devices;
mod hooks;
mod host_view;
mod inherited;
mod lifecycle;
mod log;
mod mirror;
mod monitor;
mod mount_checks;
mod network;
mod owner;
mod process;
mod rootless;
mod sandbox;
mod state;
mod sysctl;
mod translate;
mod unknown_names;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::cgroup::Driver;
use crate::cli::{Cli, GlobalArgs};
use crate::commands::{Context, carry_out, failure_code, failure_text};
use crate::log::Log;
use crate::rootless::Caller;
use crate::state::Root;

fn main() -> ExitCode {
    if let Some(code) = mirror::run() {
        return code;
    }
    inherited::close();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let log = match Log::new(&cli.global) {
        Ok(log) => log,
        Err(error) => {
            log::write_stderr(&chain::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let root = match Root::new(&root_dir(&cli.global)) {
        Ok(root) => root,
        Err(error) => {
            log.error(&format!("cannot use the state directory: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let driver = if cli.global.systemd_cgroup {
        Driver::Systemd
    } else {
        Driver::Cgroupfs
    };
    let context = Context { root, log, driver };
    match carry_out(&context, &cli.command) {
        Ok(code) => code,
        Err(error) => {
            context.log.error(&failure_text(&cli.command, &error));
            failure_code(&cli.command)
        }
    }
}

/// Exit code of runc for a command that does not exist.
const NO_SUCH_COMMAND: u8 = 3;

/// Help and version are answers; everything else is an error, with runc's exit code.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        drop(Cli::command().print_help());
        return ExitCode::SUCCESS;
    }
    // Nothing is left to report to when the output is closed.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        ErrorKind::InvalidSubcommand => ExitCode::from(NO_SUCH_COMMAND),
        _ => ExitCode::FAILURE,
    }
}

/// As runc: a user without privileges has a directory of their own, and so has root of a user namespace, unless that is made for
/// one who was root before.
fn root_dir(global: &GlobalArgs) -> PathBuf {
    let rootless = match Caller::of_process() {
        Caller::Root => false,
        Caller::NamespaceRoot => std::env::var_os("USER").is_none_or(|user| user != "root"),
        Caller::User => true,
    };
    let user_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| rootless && !dir.is_empty());
    match (&global.root, user_dir) {
        (Some(root), _) => root.clone(),
        (None, Some(dir)) => PathBuf::from(dir).join("husk"),
        (None, None) => PathBuf::from("/run/husk"),
    }
}
