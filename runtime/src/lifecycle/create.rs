//! `create`: everything between a bundle on disk and a container whose program waits for `start`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::Process;
use protocol::rpc::{Create, NamespaceKind, Request};
use protocol::sandbox::ShareConfig;
use protocol::stream::WindowSize;

use super::LifecycleError;
use super::clear::withdraw;
use super::neighbours::{self, Home, NeighbourError};
use crate::agent_client::AgentClient;
use crate::annotations::Annotations;
use crate::bundle::Bundle;
use crate::cgroup::{Driver, Group, HostCgroup, Membership, Plan};
use crate::chain::chain;
use crate::hooks;
use crate::host_view::HostView;
use crate::log::Log;
use crate::monitor::{Mode, Monitor, ProcessName, Signals, StdioStreams};
use crate::network::{Namespace, NetworkError, Wanted, Wiring, loopback_lacks_ipv6};
use crate::process::ProcessRef;
use crate::rootless;
use crate::sandbox::{Booting, Install, Sandbox, SandboxError, ShareList, memory_mib, plan};
use crate::state::{ContainerDir, ContainerId, Exit, Phase, Record, Root, SandboxDir, write_exit};
use crate::translate::{disable_loopback_ipv6, translate, use_guests_network};

/// A container that exists as a claimed id and a checked plan. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct NewContainer {
    bundle: Bundle,
    root: Root,
    spec: serde_json::Value,
    shares: Vec<ShareConfig>,
    install: Install,
    network: Wanted,
    home: Option<Home>,
    sandbox_memory: Option<u64>,
    mode: Mode,
    cgroup: Plan,
    claim: Claim,
}

/// The state directory of a container that is not complete yet: removed, with its sandbox, unless it is kept.
#[derive(Debug)]
struct Claim(Option<ContainerDir>);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            let record = dir.read().ok().map(|(record, _)| record);
            // The failure that led here is the one to report.
            drop(withdraw(dir, record.as_ref()));
        }
    }
}

/// Checks everything that can be checked without a virtual machine, and claims the id.
pub(crate) fn prepare(
    root: &Root,
    id: &str,
    bundle: Option<&std::path::Path>,
    console: Console<'_>,
    driver: Driver,
    log: &Log,
) -> Result<NewContainer, LifecycleError> {
    let id = ContainerId::parse(id)?;
    let mut bundle = Bundle::load(bundle)?;
    rootless::adapt(&mut bundle.spec)?;
    let mode = console.mode(&bundle)?;
    let annotations = Annotations::of(bundle.spec.annotations().as_ref());
    let sandbox_memory = annotations.sandbox_memory().map_err(NeighbourError::from)?;
    let home = neighbours::find(root, &bundle.spec)?;
    let joins = home.as_ref().map_or(&[][..], |home| &home.joins);
    let translated = translate(&bundle, &id, joins)?;
    for warning in bundle.unknown.iter().chain(&translated.warnings) {
        log.warn(warning);
    }
    let network = match &home {
        Some(home) if home.network.is_some() => Wanted::shared(&bundle.spec)?,
        _ => Wanted::of(&bundle.spec)?,
    };
    let install = Install::find().map_err(SandboxError::Install)?;
    let claim = Claim(Some(ContainerDir::create(root, &id)?));
    let monitor = console.membership();
    let memory = memory_mib(&bundle.spec, sandbox_memory);
    let (cgroup, left_out) = Plan::of(&bundle.spec, &id, driver, monitor, memory)?;
    left_out.iter().for_each(|warning| log.warn(warning));
    Ok(NewContainer {
        bundle,
        root: root.clone(),
        spec: translated.spec,
        shares: translated.shares,
        install,
        network,
        home,
        sandbox_memory,
        mode,
        cgroup,
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

    /// Engines look for the container's cgroup where its monitor is.
    pub(crate) fn membership(self) -> Membership {
        if self.detached {
            Membership::Container
        } else {
            Membership::Caller
        }
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
    cgroup: Option<Group>,
    vmm: Option<ProcessRef>,
    network: Option<Namespace>,
    claim: Claim,
}

impl NewContainer {
    /// Leaves the claim to the process that this one was split into.
    pub(crate) fn hand_over(mut self) {
        std::mem::forget(self.claim.0.take());
    }

    /// Boots the machine and makes the container in it; this process is the monitor.
    pub(crate) fn make(mut self, signals: Signals, log: &Log) -> Result<Made, LifecycleError> {
        rootless::enter()?;
        let shares = std::mem::take(&mut self.shares);
        let network = std::mem::replace(&mut self.network, Wanted::New);
        let Some(dir) = &self.claim.0 else {
            unreachable!("a claim is only given up with the container");
        };
        let id = dir.id().to_string();
        let (mut record, mut group) = self.settle(dir, network)?;
        ShareList::of(dir.path()).write(&shares)?;
        let mut sandbox = match &self.home {
            Some(home) => self.join(home, dir, &mut record)?,
            None => self.boot(dir, shares, (&mut record, &mut group), &signals, log)?,
        };
        if let Some(network) = &record.network {
            use_network(network, self.home.as_mut(), &mut self.spec);
        }
        let size = console_size(self.bundle.spec.process().as_ref());
        let streams = StdioStreams::open(&sandbox.socket, &self.mode, size)?;
        let create = Request::Create(Box::new(Create {
            id: id.clone(),
            spec: self.spec,
            join: self.home.map_or_else(Vec::new, |home| home.joins),
            hooks: hooks::on_start(&record)?,
            stdio: streams.message.clone(),
        }));
        let created = sandbox.agent.started(&create);
        if let (Err(_), Some(reason)) = (&created, sandbox.last_words()) {
            return Err(SandboxError::Died { reason }.into());
        }
        created.map_err(LifecycleError::Process)?;
        self.cgroup.throttle(group.as_ref())?;
        let view = HostView::enter(&self.bundle)?;
        let wait = AgentClient::connect(&sandbox.socket)?;
        let monitor = Monitor::new(ProcessName { id, exec: None }, wait, streams, signals)?;
        record.phase = Phase::Created;
        dir.write(&record)?;
        Ok(Made {
            monitor,
            view,
            sandbox,
            cgroup: group,
            vmm: record.vmm,
            network: record.network,
            claim: self.claim,
        })
    }

    /// Brings this process to where the container is to be on the host: its cgroup and its network. Runs the hooks of that moment.
    fn settle(
        &self,
        dir: &ContainerDir,
        network: Wanted,
    ) -> Result<(Record, Option<Group>), LifecycleError> {
        let own = ProcessRef::of(rustix::process::getpid().as_raw_nonzero().get());
        let own = own.map_err(LifecycleError::Monitor)?;
        let mut record = Record::new(dir.id(), &self.bundle, own);
        record.namespaces = neighbours::given(&self.bundle.spec);
        record.cgroup = Some(self.cgroup.record());
        dir.write(&record)?;
        let group = self.cgroup.enter()?;
        record.cgroup = group.as_ref().map(Group::record);
        let own = network.enter()?;
        let shared = self.home.as_ref().and_then(|home| home.network.clone());
        record.network = shared.or(own);
        dir.write(&record)?;
        // They bring interfaces: what the machine has is known after them.
        hooks::on_create(&record, &self.bundle.spec)?;
        Ok((record, group))
    }

    /// Boots a machine for the container.
    fn boot(
        &self,
        dir: &ContainerDir,
        shares: Vec<ShareConfig>,
        (record, group): (&mut Record, &mut Option<Group>),
        signals: &Signals,
        log: &Log,
    ) -> Result<Sandbox, LifecycleError> {
        let (sandbox, life, lifeline) = SandboxDir::create(&self.root, dir)?;
        let mut config = plan(
            &self.install,
            &self.bundle.spec,
            self.sandbox_memory,
            shares,
            &sandbox,
        );
        // The sandbox's directory is there: whoever removes it removes this too.
        let wiring = wire(record, dir, log)?;
        config.devices.extend(wiring.devices());
        let booting = Booting::launch(&self.install, &config, &sandbox, (life, lifeline))?;
        let machine = booting.process()?;
        record.vmm = Some(machine);
        if group.is_none() {
            record.cgroup = Some(self.cgroup.record());
            dir.write(record)?;
            *group = self.cgroup.put(machine.pid)?;
            record.cgroup = group.as_ref().map(Group::record);
        }
        dir.write(record)?;
        let mut sandbox = booting.wait(signals)?;
        wiring.connect()?;
        if let Some(network) = wiring.into_network() {
            let network = Box::new(network);
            sandbox.agent.done(&Request::Network { network })?;
        }
        Ok(sandbox)
    }

    /// Makes the container part of a sandbox that runs.
    fn join(
        &self,
        home: &Home,
        dir: &ContainerDir,
        record: &mut Record,
    ) -> Result<Sandbox, LifecycleError> {
        if let (None, Some(own)) = (&home.network, &mut record.network)
            && Wiring::plan(own)?.into_network().is_some()
        {
            // They would be devices of a machine that runs.
            return Err(NetworkError::Late.into());
        }
        let life = home.sandbox.hold()?.ok_or(SandboxError::Ended)?;
        let machine = home.machine.hold().ok_or(SandboxError::Ended)?;
        home.sandbox.link(dir)?;
        record.vmm = Some(home.machine);
        dir.write(record)?;
        ShareList::of(dir.path()).attach(&self.install, home.machine)?;
        Ok(Sandbox::join(&home.sandbox, machine, life)?)
    }
}

impl Made {
    /// Gives the lock back: from here on the container is what other commands find.
    pub(crate) fn release(mut self) -> Serving {
        let Some(dir) = self.claim.0.take() else {
            unreachable!("a claim is only given up here");
        };
        let (path, id) = (dir.path().to_owned(), dir.id().to_string());
        dir.unlock();
        Serving {
            monitor: self.monitor,
            _view: self.view,
            sandbox: self.sandbox,
            cgroup: self.cgroup.map(Group::keep),
            vmm: self.vmm,
            network: self.network,
            path,
            id,
        }
    }
}

/// A container in the hands of its monitor. Dropping it ends the container, and with the last one the machine.
#[derive(Debug)]
pub(crate) struct Serving {
    monitor: Monitor,
    /// Where engines look for the container's files, as long as this exists.
    _view: HostView,
    sandbox: Sandbox,
    cgroup: Option<HostCgroup>,
    /// The machine, which may be in the cgroup and outlive the container.
    vmm: Option<ProcessRef>,
    network: Option<Namespace>,
    path: PathBuf,
    id: String,
}

impl Serving {
    /// Serves the container to its end, and leaves the machine. `exit.json` remains.
    pub(crate) fn serve(mut self, log: &Log) -> Result<Exit, LifecycleError> {
        let machine = self
            .sandbox
            .as_fd()
            .try_clone_to_owned()
            .map_err(LifecycleError::Monitor)?;
        let exit = self.monitor.serve(machine.as_fd(), &mut self.sandbox.agent);
        let written = write_exit(&self.path, exit);
        self.monitor.drain(exit);
        if let Some(cgroup) = &self.cgroup {
            cgroup.unthrottle();
        }
        let last = self.sandbox.leave(&self.id);
        if let (true, Some(network)) = (last, &self.network)
            && let Err(error) = network.clean()
        {
            // `delete` tries again.
            log.warn(&chain(&error));
        }
        if let Some(cgroup) = self.cgroup.filter(|_| exit.oom_killed) {
            report_oom(&cgroup, self.vmm, log);
        }
        // A directory that a forced deletion has removed needs no exit code.
        if self.path.exists() {
            written?;
        }
        Ok(exit)
    }
}

/// Tells engines that the container ran out of memory; not if a machine that others need could be hit.
fn report_oom(cgroup: &HostCgroup, vmm: Option<ProcessRef>, log: &Log) {
    if vmm.is_some_and(|vmm| cgroup.has(vmm.pid)) {
        return log.warn("OOM kill not reported: other containers use the machine in the cgroup");
    }
    if let Err(error) = cgroup.report_oom() {
        // The exit code counts for more.
        log.warn(&chain(&error));
    }
}

/// Says in the spec what there is of the network in the guest.
fn use_network(network: &Namespace, home: Option<&mut Home>, spec: &mut serde_json::Value) {
    let shared = home.as_ref().is_some_and(|home| home.network.is_some());
    if network.has_interfaces() {
        use_guests_network(spec);
        // Who shares it is in the guest's own too, and joins no container's.
        if let Some(home) = home {
            home.joins
                .retain(|join| join.kind != NamespaceKind::Network);
        }
    }
    // That of a sandbox is as its first container has made it.
    if !shared && loopback_lacks_ipv6() {
        disable_loopback_ipv6(spec);
    }
}

/// Makes taps for the machine beside the interfaces of the container's network namespace.
fn wire(record: &mut Record, dir: &ContainerDir, log: &Log) -> Result<Wiring, LifecycleError> {
    let Some(namespace) = &mut record.network else {
        return Ok(Wiring::default());
    };
    let wiring = Wiring::plan(namespace)?;
    for what in wiring.left_out() {
        log.warn(&format!("the guest does not get {what}"));
    }
    // Whoever cleans up after a crash finds out here what there may be.
    dir.write(record)?;
    wiring.make_taps()?;
    Ok(wiring)
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
