//! Hooks of the host's side (OCI runtime spec, "POSIX-platform Hooks"): programs that get the container's state on
//! standard input.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::Hook;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::network::on_host;
use crate::process::wait_readable;
use crate::state::View;

/// Time of a hook that sets none.
const DEFAULT_LIMIT: Duration = Duration::from_secs(300);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be run.
    #[error("cannot run {kind} hook {path}")]
    Run {
        /// `prestart`, ...
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{kind} hook {path} failed: {status}")]
    Failed {
        /// `prestart`, ...
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took longer than its `timeout`.
    #[error("{kind} hook {path} took longer than {} s", limit.as_secs())]
    Slow {
        /// `prestart`, ...
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// Its limit.
        limit: Duration,
    },
}

/// Runs hooks in order, up to the first that fails, in the network namespace of the host.
pub(crate) fn run(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &View<'_>,
) -> Result<(), HookError> {
    let hooks = hooks.filter(|hooks| !hooks.is_empty());
    let Some(hooks) = hooks else {
        return Ok(());
    };
    let run_all = || hooks.iter().try_for_each(|hook| run_one(kind, hook, state));
    on_host(run_all).map_err(|source| HookError::Run {
        kind,
        path: hooks[0].path().clone(),
        source,
    })?
}

fn run_one(kind: &'static str, hook: &Hook, state: &View<'_>) -> Result<(), HookError> {
    let path = hook.path().clone();
    let failed = |source| HookError::Run {
        kind,
        path: path.clone(),
        source,
    };
    let mut command = Command::new(&path);
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let variables = hook
        .env()
        .iter()
        .flatten()
        .filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(variables);
    // The hook's output is not the container's.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let state = serde_json::to_vec(state).map_err(|error| failed(error.into()))?;
    let mut child = command.spawn().map_err(failed)?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let pidfd = pidfd.map_err(|errno| failed(errno.into()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input; how it ends decides.
        drop(stdin.write_all(&state));
    }
    let seconds = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let limit = seconds
        .filter(|seconds| *seconds > 0)
        .map_or(DEFAULT_LIMIT, Duration::from_secs);
    let in_time = wait_readable(std::os::fd::AsFd::as_fd(&pidfd), limit);
    if !in_time {
        child.kill().map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    match (in_time, status.success()) {
        (false, _) => Err(HookError::Slow { kind, path, limit }),
        (true, false) => Err(HookError::Failed { kind, path, status }),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessRef;
    use crate::state::{Phase, Record, Status};
    use serde_json::json;

    fn run_hook(hook: &serde_json::Value) -> Result<(), HookError> {
        let hooks: Vec<Hook> = vec![serde_json::from_value(hook.clone()).unwrap()];
        let monitor = ProcessRef {
            pid: 1,
            start_time: 1,
        };
        let record = Record::sample(Phase::Creating, monitor);
        run(
            "prestart",
            Some(&hooks),
            &View::new(&record, Status::Creating),
        )
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_only_its_environment() {
        let script =
            "test \"$0 $1 $A\" = 'name one 1' && test -z \"$HOME\" && grep -q '\"id\":\"c1\"'";
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, "name", "one"],
            "env": ["A=1", "PATH=/usr/bin:/bin"]});
        run_hook(&hook).unwrap();
    }

    #[test]
    fn failures_name_the_hook() {
        let missing = run_hook(&json!({"path": "/nowhere/hook"})).unwrap_err();
        assert!(missing.to_string().contains("prestart hook /nowhere/hook"));
        let failed = run_hook(&json!({"path": "/bin/false"})).unwrap_err();
        assert!(matches!(failed, HookError::Failed { .. }));
        let slow = json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1});
        assert!(matches!(
            run_hook(&slow).unwrap_err(),
            HookError::Slow { .. }
        ));
    }
}
