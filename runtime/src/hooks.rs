//! Where the hooks of the host's side run (OCI runtime spec, "POSIX-platform Hooks").

#![expect(
    unsafe_code,
    reason = "unshare can separate file descriptor tables, which is not asked for here"
)]

use std::io;

use hooks::{HookError, Place};
use oci_spec::runtime::{Hook, Spec};
use protocol::rpc::StartHooks;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::network::on_host;
use crate::state::{Record, Status, View};

/// Why hooks failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HooksError {
    /// The namespaces that they run in.
    #[error("cannot enter the namespaces of {kind} hooks")]
    Enter {
        /// `prestart`, ...
        kind: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state that they get.
    #[error("cannot put the state for {kind} hooks as JSON")]
    State {
        /// `prestart`, ...
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// One of them.
    #[error(transparent)]
    Hook(#[from] HookError),
}

/// Runs hooks in the namespaces of the runtime.
pub(crate) fn run(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &View<'_>,
) -> Result<(), HooksError> {
    let place = Place::default();
    run_within(kind, hooks, state, &place, |work| on_host(work))
}

/// Runs the hooks of a container that is being made.
pub(crate) fn on_create(record: &Record, spec: &Spec) -> Result<(), HooksError> {
    let Some(hooks) = &record.hooks else {
        return Ok(());
    };
    let view = View::new(record, Status::Creating);
    run("prestart", hooks.prestart().as_ref(), &view)?;
    run("createRuntime", hooks.create_runtime().as_ref(), &view)?;
    // In what there is on the host of the container's namespaces: that of its network, and one of mounts, which the guest
    // does not see. What they do to the files of the root file system, it does.
    let process = spec.process().as_ref();
    let place = Place {
        directory: Some(&record.rootfs),
        environment: process.and_then(|process| process.env().as_deref()),
    };
    let hooks = hooks.create_container().as_ref();
    run_within("createContainer", hooks, &view, &place, |work| {
        in_own_mounts(work)
    })
}

/// The hooks that the container's first process runs when it is started.
pub(crate) fn on_start(record: &Record) -> Result<Option<StartHooks>, HooksError> {
    let hooks = record.hooks.as_ref();
    let hooks = hooks.and_then(|hooks| hooks.start_container().as_ref());
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return Ok(None);
    };
    let failed = |source| HooksError::State {
        kind: "startContainer",
        source,
    };
    Ok(Some(StartHooks {
        hooks: serde_json::to_value(hooks).map_err(failed)?,
        state: serde_json::to_value(View::new(record, Status::Created)).map_err(failed)?,
    }))
}

/// Does something in a new mount namespace, which no mount leaves. Only a thread can be there.
fn in_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let thread = || -> io::Result<T> {
        // SAFETY: file descriptors stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", downstream)?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new().spawn_scoped(scope, thread)?;
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

type Work<'a> = Box<dyn FnOnce() -> Result<(), HookError> + Send + 'a>;

fn run_within(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &View<'_>,
    place: &Place<'_>,
    within: impl FnOnce(Work<'_>) -> io::Result<Result<(), HookError>>,
) -> Result<(), HooksError> {
    let hooks = hooks.filter(|hooks| !hooks.is_empty());
    let Some(hooks) = hooks else {
        return Ok(());
    };
    let state = serde_json::to_vec(state).map_err(|source| HooksError::State { kind, source })?;
    let outcome = within(Box::new(|| hooks::run(kind, hooks, &state, place)));
    Ok(outcome.map_err(|source| HooksError::Enter { kind, source })??)
}
