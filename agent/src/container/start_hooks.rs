//! `startContainer` hooks: programs of the container that its first process runs before the user's program. libcontainer
//! would run them with a state of its own, and without a word if one fails.

use libcontainer::oci_spec::runtime::Hook;
use protocol::rpc::{self, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use super::program::{Unusable, text};

/// Most hooks of one container.
const MAX_HOOKS: usize = 64;

/// The hooks, and the state that they get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StartHooks {
    hooks: Vec<Hook>,
    state: Map<String, Value>,
}

/// Checks what the host asks for.
pub(super) fn take(asked: rpc::StartHooks) -> Result<StartHooks, Failure> {
    let invalid = |problem: &str| Failure::new(ErrorCode::Invalid, problem.to_owned());
    let Value::Object(state) = asked.state else {
        return Err(invalid("hooks.state is not an object"));
    };
    let hooks: Vec<Hook> = serde_json::from_value(asked.hooks)
        .map_err(|error| invalid(&format!("hooks.startContainer is not usable: {error}")))?;
    if hooks.len() > MAX_HOOKS {
        let problem = format!("hooks.startContainer has more than {MAX_HOOKS} hooks");
        return Err(invalid(&problem));
    }
    Ok(StartHooks { hooks, state })
}

impl StartHooks {
    /// Runs them in this process's place; `environment` is the program's.
    pub(super) fn run(&self, environment: &[String]) -> Result<(), Unusable> {
        let mut state = self.state.clone();
        // As the container sees it.
        state.insert("pid".to_owned(), std::process::id().into());
        let state = Value::Object(state).to_string();
        let place = hooks::Place {
            directory: None,
            environment: Some(environment),
        };
        let outcome = hooks::run("startContainer", &self.hooks, state.as_bytes(), &place);
        outcome.map_err(|error| Unusable {
            code: ErrorCode::Internal,
            message: explain(&error),
        })
    }
}

/// In runc's words, on one line but for what a hook has written.
fn explain(error: &hooks::HookError) -> String {
    let reason = match &error.source {
        hooks::HookFailure::Run { source, .. } => {
            let errno = rustix::io::Errno::from_io_error(source);
            format!(": {}", errno.map_or("input/output error", text))
        }
        _ => String::new(),
    };
    format!("{error}: {}{reason}", error.source)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(hooks: Value, state: Value) -> Result<StartHooks, Failure> {
        take(rpc::StartHooks { hooks, state })
    }

    #[test]
    fn what_is_no_hook_is_refused_by_field() {
        for (hooks, state, field) in [
            (json!([]), json!(1), "hooks.state"),
            (json!([{"path": 1}]), json!({}), "hooks.startContainer"),
            (
                json!(vec![json!({"path": "/a"}); MAX_HOOKS + 1]),
                json!({}),
                "hooks.startContainer",
            ),
        ] {
            let failure = taken(hooks, state).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Invalid);
            assert!(failure.message.starts_with(field), "{}", failure.message);
        }
    }

    #[test]
    fn hooks_get_the_state_with_the_pid_and_failures_have_runcs_words() {
        let script = "grep -q '\"pid\":[1-9]' && echo $A >&2; exit 4";
        let hooks = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        let hooks = taken(hooks, json!({"id": "a"})).unwrap();
        let failed = hooks.run(&["A=b".to_owned(), "PATH=/bin:/usr/bin".to_owned()]);
        assert_eq!(
            failed.unwrap_err().message,
            "error running hook #0 (startContainer: /bin/sh): error running hook: exit status 4, \
             stdout: , stderr: b\n"
        );
        let missing = taken(json!([{"path": "/no/hook"}]), json!({})).unwrap();
        assert_eq!(
            missing.run(&[]).unwrap_err().message,
            "error running hook #0 (startContainer: /no/hook): fork/exec /no/hook: no such file or directory"
        );
    }
}
