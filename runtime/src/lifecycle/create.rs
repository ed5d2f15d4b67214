//! `create`: everything between a bundle on disk and a container whose program waits for `start`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::Process;
use protocol::rpc::Request;
use protocol::sandbox::SandboxConfig;
use protocol::stream::WindowSize;

use super::LifecycleError;
use crate::agent_client::AgentClient;
use crate::bundle::Bundle;
use crate::hooks;
use crate::host_view::HostView;
use crate::log::Log;
use crate::monitor::{Mode, Monitor, ProcessName, Signals, StdioStreams};
use crate::network::Wanted;
use crate::process::ProcessRef;
use crate::sandbox::{Booting, Install, Sandbox, SandboxError, plan};
use crate::state::{
    ContainerDir, ContainerId, Exit, Phase, Record, Root, Status, View, write_exit,
};
use crate::translate::translate;

/// A container that exists as a claimed id and a checked plan. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct NewContainer {
    bundle: Bundle,
    spec: serde_json::Value,
    config: SandboxConfig,
    install: Install,
    network: Wanted,
    mode: Mode,
    claim: Claim,
}

/// The state directory of a container that is not complete yet: removed unless it is kept.
#[derive(Debug)]
struct Claim(Option<ContainerDir>);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            // The failure that led here is the one to report.
            drop(dir.remove());
        }
    }
}

/// Checks everything that can be checked without a virtual machine, and claims the id.
pub(crate) fn prepare(
    root: &Root,
    id: &str,
    bundle: Option<&std::path::Path>,
    console: Console<'_>,
    log: &Log,
) -> Result<NewContainer, LifecycleError> {
    let id = ContainerId::parse(id)?;
    let bundle = Bundle::load(bundle)?;
    let mode = console.mode(&bundle)?;
    let translated = translate(&bundle, &id)?;
    for warning in &translated.warnings {
        log.warn(warning);
    }
    let network = Wanted::of(&bundle.spec)?;
    let install = Install::find().map_err(SandboxError::Install)?;
    let claim = ContainerDir::create(root, &id)?;
    let config = plan(&install, &bundle.spec, translated.shares, claim.path());
    let claim = Claim(Some(claim));
    Ok(NewContainer {
        bundle,
        spec: translated.spec,
        config,
        install,
        network,
        mode,
        claim,
    })
}

/// Where the command line leads a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console<'a> {
    /// `--console-socket`.
    pub(crate) socket: Option<&'a PathBuf>,
    /// The command returns before the container ends.
    pub(crate) detached: bool,
}

impl Console<'_> {
    fn mode(self, bundle: &Bundle) -> Result<Mode, LifecycleError> {
        let terminal = bundle
            .spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal());
        self.mode_for(terminal.unwrap_or(false))
    }

    /// Where the streams of a process lead that wants a terminal or not. The refusals are runc's.
    pub(crate) fn mode_for(self, terminal: bool) -> Result<Mode, LifecycleError> {
        let refused = |text: &str| Err(LifecycleError::WrongState(text.to_owned()));
        match (terminal, self.detached, self.socket) {
            (true, true, Some(socket)) => match std::path::absolute(socket) {
                Ok(socket) => Ok(Mode::Console(socket)),
                Err(error) => Err(LifecycleError::Monitor(error)),
            },
            (true, true, None) => {
                refused("cannot allocate tty if husk will detach without setting console socket")
            }
            (true, false, None) => Ok(Mode::UserTerminal),
            (false, _, None) => Ok(Mode::Inherit),
            (_, _, Some(_)) => {
                refused("cannot use console socket if husk will not detach or allocate tty")
            }
        }
    }
}

/// A container whose program waits for `start`, and everything that serves it. Dropping it undoes `create`.
#[derive(Debug)]
pub(crate) struct Made {
    monitor: Monitor,
    view: HostView,
    sandbox: Sandbox,
    claim: Claim,
}

impl NewContainer {
    /// Leaves the claim to the process that this one was split into.
    pub(crate) fn hand_over(mut self) {
        std::mem::forget(self.claim.0.take());
    }

    /// Boots the machine and makes the container in it; this process is the monitor.
    pub(crate) fn make(self, signals: Signals) -> Result<Made, LifecycleError> {
        let Some(dir) = &self.claim.0 else {
            unreachable!("a claim is only given up with the container");
        };
        let id = dir.id().to_string();
        let own = ProcessRef::of(rustix::process::getpid().as_raw_nonzero().get());
        let mut record = Record::new(
            dir.id(),
            &self.bundle,
            own.map_err(LifecycleError::Monitor)?,
        );
        record.network = self.network.enter()?;
        dir.write(&record)?;
        // They bring interfaces: what the machine has is known after them.
        run_hooks(&record)?;
        let booting = Booting::launch(&self.install, &self.config, dir.path())?;
        record.vmm = Some(booting.process()?);
        dir.write(&record)?;
        let mut sandbox = booting.wait(&signals)?;
        let size = console_size(self.bundle.spec.process().as_ref());
        let streams = StdioStreams::open(&sandbox.socket, &self.mode, size)?;
        let (spec, stdio) = (Box::new(self.spec), streams.message.clone());
        let create = Request::Create {
            id: id.clone(),
            spec,
            stdio,
        };
        let created = sandbox.agent.started(&create);
        if let (Err(_), Some(reason)) = (&created, sandbox.last_words()) {
            return Err(SandboxError::Died { reason }.into());
        }
        created.map_err(LifecycleError::Process)?;
        let view = HostView::enter(&self.bundle)?;
        let wait = AgentClient::connect(&sandbox.socket)?;
        let monitor = Monitor::new(ProcessName { id, exec: None }, wait, streams, signals)?;
        record.phase = Phase::Created;
        dir.write(&record)?;
        Ok(Made {
            monitor,
            view,
            sandbox,
            claim: self.claim,
        })
    }
}

impl Made {
    /// Gives the lock back: from here on the container is what other commands find.
    pub(crate) fn release(mut self) -> Serving {
        let Some(dir) = self.claim.0.take() else {
            unreachable!("a claim is only given up here");
        };
        let path = dir.path().to_owned();
        dir.unlock();
        Serving {
            monitor: self.monitor,
            _view: self.view,
            sandbox: self.sandbox,
            path,
        }
    }
}

/// A container in the hands of its monitor. Dropping it ends the machine.
#[derive(Debug)]
pub(crate) struct Serving {
    monitor: Monitor,
    /// Where engines look for the container's files, as long as this exists.
    _view: HostView,
    sandbox: Sandbox,
    path: PathBuf,
}

impl Serving {
    /// Serves the container to its end, and ends the machine. `exit.json` remains.
    pub(crate) fn serve(mut self) -> Result<Exit, LifecycleError> {
        let machine = self
            .sandbox
            .as_fd()
            .try_clone_to_owned()
            .map_err(LifecycleError::Monitor)?;
        let exit = self.monitor.serve(machine.as_fd(), &mut self.sandbox.agent);
        let written = write_exit(&self.path, exit);
        self.monitor.drain(exit);
        self.sandbox.shut_down();
        // A directory that a forced deletion has removed needs no exit code.
        if self.path.exists() {
            written?;
        }
        Ok(exit)
    }
}

fn run_hooks(record: &Record) -> Result<(), LifecycleError> {
    let Some(hooks) = &record.hooks else {
        return Ok(());
    };
    let view = View::new(record, Status::Creating);
    hooks::run("prestart", hooks.prestart().as_ref(), &view)?;
    hooks::run("createRuntime", hooks.create_runtime().as_ref(), &view)?;
    Ok(())
}

/// The size that a spec gives a process's terminal.
pub(super) fn console_size(process: Option<&Process>) -> Option<WindowSize> {
    let size = process?.console_size()?;
    let (rows, columns) = (
        size.height().try_into().ok()?,
        size.width().try_into().ok()?,
    );
    Some(WindowSize { rows, columns })
}
