//! Runs OCI hooks (OCI runtime spec, "POSIX-platform Hooks"): programs that get a container's state on standard input.
//!
//! The runtime does so on the host, the agent in a container: neither knows more of a hook than the other. The words of
//! failures are runc's.

mod output;

use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

use output::Output;

/// Why a list of hooks stopped. Its source says what happened.
#[derive(Debug, thiserror::Error)]
#[error("error running hook #{index} ({kind}: {path})")]
pub struct HookError {
    /// Its place in the list.
    pub index: usize,
    /// `prestart`, ...
    pub kind: &'static str,
    /// Its program.
    pub path: PathBuf,
    /// What happened.
    pub source: HookFailure,
}

/// What happened to a hook.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    /// It cannot be run.
    #[error("fork/exec {path}")]
    Run {
        /// Its program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("error running hook: {}, stdout: {stdout}, stderr: {stderr}", ending(*.status))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, cut.
        stdout: String,
        /// The same.
        stderr: String,
    },
    /// It took longer than its `timeout`.
    #[error("hook ran past specified timeout of {}.0s", .limit.as_secs())]
    Slow {
        /// Its limit.
        limit: Duration,
    },
}

/// Where hooks run, as far as the process that runs them has not moved there itself.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// Their working directory, if not the caller's.
    pub directory: Option<&'a Path>,
    /// Environment, as `NAME=value`, of hooks that set none; the caller's if `None`.
    pub environment: Option<&'a [String]>,
}

/// Runs hooks in order, up to the first that fails. `state` is the container's, as JSON.
///
/// # Errors
/// Names the hook that could not be run, ended with an error, or took longer than it may.
pub fn run(
    kind: &'static str,
    hooks: &[Hook],
    state: &[u8],
    place: &Place<'_>,
) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, place).map_err(|source| HookError {
            index,
            kind,
            path: hook.path().clone(),
            source,
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8], place: &Place<'_>) -> Result<(), HookFailure> {
    let failed = |source| HookFailure::Run {
        path: hook.path().clone(),
        source,
    };
    let mut child = command(hook, place).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input; how it ends decides.
        drop(stdin.write_all(state));
    }
    let limit = limit(hook);
    let waited = wait(&mut child, limit).map_err(failed)?;
    match (waited, limit) {
        (Some((status, _)), _) if status.success() => Ok(()),
        (Some((status, [stdout, stderr])), _) => Err(HookFailure::Failed {
            status,
            stdout,
            stderr,
        }),
        (None, limit) => Err(HookFailure::Slow {
            limit: limit.unwrap_or_default(),
        }),
    }
}

fn command(hook: &Hook, place: &Place<'_>) -> Command {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let environment = hook.env().as_deref().or(place.environment);
    if let Some(variables) = environment {
        let variables = variables.iter().filter_map(|v| v.split_once('='));
        command.env_clear().envs(variables);
    }
    if let Some(directory) = place.directory {
        command.current_dir(directory);
    }
    // The hook's output is not the container's.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Without a `timeout`, a hook takes the time that it takes.
fn limit(hook: &Hook) -> Option<Duration> {
    let seconds = u64::try_from(hook.timeout()?).ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// How the hook ended and what it wrote; nothing if it had to be killed.
fn wait(
    child: &mut Child,
    limit: Option<Duration>,
) -> io::Result<Option<(ExitStatus, [String; 2])>> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut outputs = [
        Output::new(child.stdout.take()),
        Output::new(child.stderr.take()),
    ];
    loop {
        let ended = child.try_wait()?;
        output::read(&mut outputs)?;
        if let Some(status) = ended {
            return Ok(Some((status, outputs.map(|output| output.text()))));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
}

/// As Go says it.
fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => "signal: killed".to_owned(),
        (None, Some(15)) => "signal: terminated".to_owned(),
        (None, signal) => format!("signal: signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run_hook(hook: Value, place: &Place<'_>) -> Result<(), HookError> {
        let hooks: Vec<Hook> = vec![serde_json::from_value(hook).unwrap()];
        run("prestart", &hooks, br#"{"id":"c1"}"#, place)
    }

    fn explain(error: &HookError) -> String {
        let source = std::error::Error::source(error).unwrap();
        format!("{error}: {source}")
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_only_its_environment() {
        let script =
            "test \"$0 $1 $A\" = 'name one 1' && test -z \"$HOME\" && grep -q '\"id\":\"c1\"'";
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, "name", "one"],
            "env": ["A=1", "PATH=/usr/bin:/bin"]});
        run_hook(hook, &Place::default()).unwrap();
    }

    #[test]
    fn a_hook_without_an_environment_has_that_of_its_place() {
        let hook = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        let environment = ["B=2".to_owned()];
        let place = Place {
            directory: Some(Path::new("/usr")),
            environment: Some(&environment),
        };
        run_hook(hook("test $B = 2 && test $(pwd) = /usr"), &place).unwrap();
        run_hook(hook("test -n \"$PATH\""), &Place::default()).unwrap();
    }

    #[test]
    fn failures_name_the_hook_in_runcs_words() {
        let fails = |hook| explain(&run_hook(hook, &Place::default()).unwrap_err());
        assert_eq!(
            fails(json!({"path": "/nowhere/hook"})),
            "error running hook #0 (prestart: /nowhere/hook): fork/exec /nowhere/hook"
        );
        let script = "echo out; echo err >&2; exit 3";
        assert_eq!(
            fails(json!({"path": "/bin/sh", "args": ["sh", "-c", script]})),
            "error running hook #0 (prestart: /bin/sh): error running hook: exit status 3, \
             stdout: out\n, stderr: err\n"
        );
        assert_eq!(
            fails(json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1})),
            "error running hook #0 (prestart: /bin/sleep): hook ran past specified timeout of 1.0s"
        );
    }

    #[test]
    fn much_output_is_cut_and_does_not_stop_a_hook() {
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; exit 1";
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        let error = run_hook(hook, &Place::default()).unwrap_err();
        let HookFailure::Failed { stdout, .. } = error.source else {
            panic!("{error:?}");
        };
        assert_eq!(stdout.len(), output::LIMIT);
    }

    #[test]
    fn a_hook_may_leave_a_process_behind_that_holds_its_output() {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "sleep 5 & exit 0"]});
        let begun = Instant::now();
        run_hook(hook, &Place::default()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
