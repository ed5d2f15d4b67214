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
use crate::process::elsewhere;
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
    run_by(kind, hooks, state, |hooks, state| {
        on_host(|| hooks::run(kind, hooks, state, &Place::default()))
    })
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
    let (kind, hooks) = ("createContainer", hooks.create_container().as_ref());
    run_by(kind, hooks, &view, |hooks, state| {
        elsewhere(into_own_mounts, || hooks::run(kind, hooks, state, &place))
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

/// Moves this thread to a new mount namespace, which no mount leaves.
fn into_own_mounts() -> io::Result<()> {
    // SAFETY: file descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", downstream)?)
}

/// Has hooks, if there are any, run in their place; the second argument of `run` is the state as JSON.
fn run_by(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &View<'_>,
    run: impl FnOnce(&[Hook], &[u8]) -> io::Result<Result<(), HookError>>,
) -> Result<(), HooksError> {
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return Ok(());
    };
    let state = serde_json::to_vec(state).map_err(|source| HooksError::State { kind, source })?;
    let outcome = run(hooks, &state);
    Ok(outcome.map_err(|source| HooksError::Enter { kind, source })??)
}
