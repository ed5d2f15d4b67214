//! `husk exec`.

use std::process::ExitCode;

use oci_spec::runtime::{Capability, Process};

use super::{CommandError, Context, Result, begin_monitor, refuse_descriptors, write_pid_file};
use crate::bundle::{Bundle, check_process, load_process};
use crate::chain::chain;
use crate::cli::ExecArgs;
use crate::lifecycle::{Console, ExecProcess, LifecycleError, running};
use crate::monitor::{Forked, Report, Signals, fork};
use crate::state::{ContainerId, Record};
use crate::translate::translate_process;

pub(super) fn exec(context: &Context, args: &ExecArgs) -> Result<ExitCode> {
    refuse_descriptors(args.preserve_fds)?;
    let id = ContainerId::parse(&args.id)?;
    let record = running(&context.root, &id, args.ignore_paused)?;
    let mut warnings = Vec::new();
    let mut process = process(args, &record, &mut warnings)?;
    translate_process(&mut process, &mut warnings);
    warnings
        .iter()
        .for_each(|warning| context.log.warn(warning));
    let console = Console {
        socket: args.console_socket.as_ref(),
        detached: args.detach,
    };
    let mode = console.mode_for(process.terminal().unwrap_or(false))?;
    let process = ExecProcess::new(
        &context.root,
        &id,
        &record,
        process,
        mode,
        console.membership(),
    )?;
    if args.detach {
        detached(process, args)
    } else {
        here(process, args)
    }
}

fn here(process: ExecProcess, args: &ExecArgs) -> Result<ExitCode> {
    let signals = Signals::take().map_err(LifecycleError::Monitor)?;
    let executed = process.run(signals)?;
    write_pid_file(
        args.pid_file.as_deref(),
        rustix::process::getpid().as_raw_nonzero().get(),
    )?;
    Ok(ExitCode::from(executed.serve().code))
}

fn detached(process: ExecProcess, args: &ExecArgs) -> Result<ExitCode> {
    match fork().map_err(LifecycleError::from)? {
        Forked::Monitor(report) => Ok(monitor(process, report)),
        Forked::Command(waiting) => {
            let pid = waiting.ready().map_err(LifecycleError::from)?;
            write_pid_file(args.pid_file.as_deref(), pid)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn monitor(process: ExecProcess, report: Report) -> ExitCode {
    match begin_monitor(&report).and_then(|signals| process.run(signals)) {
        Err(error) => report.failed(chain(&error)),
        Ok(executed) => {
            if report.ready().is_ok() {
                return ExitCode::from(executed.serve().code);
            }
        }
    }
    ExitCode::from(255)
}

/// The process in a file, or the container's own with other arguments. Options change either.
fn process(args: &ExecArgs, record: &Record, warnings: &mut Vec<String>) -> Result<Process> {
    let mut process = match &args.process {
        Some(file) => load_process(file)?,
        None => process_of_container(args, record)?,
    };
    let option = |option, problem: String| CommandError::Option { option, problem };
    if args.tty {
        process.set_terminal(Some(true));
    }
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    let env = process.env_mut().get_or_insert_default();
    env.extend(args.env.iter().cloned());
    if let Some(user) = &args.user {
        let (uid, gid) = parse_user(user)
            .ok_or_else(|| option("--user", format!("{user:?} is not UID[:GID]")))?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        process
            .user_mut()
            .set_additional_gids(Some(args.additional_gids.clone()));
    }
    for name in &args.cap {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match serde_json::from_value(format!("CAP_{plain}").into()) {
            Ok(capability) => add_capability(&mut process, capability),
            // As runc: what no kernel grants is no reason to fail.
            Err(_) => warnings.push(format!("unknown capability {name:?} is left out")),
        }
    }
    check_process(&process).map_err(|(field, problem)| option(field, problem))?;
    Ok(process)
}

fn process_of_container(args: &ExecArgs, record: &Record) -> Result<Process> {
    if args.command.is_empty() {
        let problem = "process args cannot be empty".to_owned();
        return Err(CommandError::Option {
            option: "COMMAND",
            problem,
        });
    }
    let bundle = Bundle::load(Some(&record.bundle))?;
    let mut process = bundle.spec.process().clone().unwrap_or_default();
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(false));
    Ok(process)
}

/// `UID[:GID]`.
fn parse_user(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once(':') {
        Some((uid, gid)) => Some((uid.parse().ok()?, Some(gid.parse().ok()?))),
        None => Some((text.parse().ok()?, None)),
    }
}

/// Adds to all sets but the ambient one, as runc: that one would outlive a change of user.
fn add_capability(process: &mut Process, capability: Capability) {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.insert(capability);
        Some(set)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    sets.set_inheritable(sets.inheritable().clone());
    process.set_capabilities(Some(sets));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        assert_eq!(parse_user("7"), Some((7, None)));
        assert_eq!(parse_user("7:8"), Some((7, Some(8))));
        for text in ["", ":", "7:", ":8", "root", "-1", "4294967296", "1:2:3"] {
            assert_eq!(parse_user(text), None, "{text}");
        }
    }
}
