//! `cargo xtask testbed`: runs a command in L1, a machine with KVM, an IOMMU and spare devices that QEMU emulates.
//!
//! One run is: image (made once) -> virtiofsd per share -> QEMU -> L1's init fetches its script and runs the job -> exit status.
//! Nothing outlives it: every process is tied to this one, and all files are in one temporary directory.

mod emulator;
mod image;
mod machine;
mod script;
mod shares;
mod streams;
mod supervision;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::emulator::Emulator;
use self::streams::{Event, Ports};
use self::supervision::{Limits, Supervision};
use crate::{packages, paths};

/// L1's processors and memory, if nothing else is said.
const CPUS: u32 = 2;
const MEMORY_MIB: u32 = 3072;
/// Longest that L1 may go without a word. It says one every five seconds, but may not get much of a loaded host.
const SILENCE: Duration = Duration::from_secs(180);

/// Run a command as root in the testbed (L1): an emulated Debian with KVM, an IOMMU, spare devices, Podman, Docker,
/// containerd, runc and crun. Output is streamed, the exit status is the command's (128+n if signal n killed it); 125 means that
/// the testbed itself failed.
#[derive(Args)]
pub(crate) struct Testbed {
    /// A directory that L1 sees under the same path, read-write; may be repeated
    #[arg(long = "share", value_name = "DIR")]
    pub(crate) shares: Vec<PathBuf>,
    /// Count instructions: a nanosecond of L1's clock is one instruction (forces one CPU)
    #[arg(long)]
    pub(crate) count: bool,
    /// L1's processors
    #[arg(long, value_name = "N", default_value_t = CPUS, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) cpus: u32,
    /// L1's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB, value_parser = clap::value_parser!(u32).range(512..=1 << 20))]
    pub(crate) memory: u32,
    /// Longest that L1 may run; for ever unless told
    #[arg(skip)]
    pub(crate) limit: Option<Duration>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// How a run ended.
pub(crate) enum End {
    /// The command did, with this exit status.
    Exit(i32),
    /// This process was told to, by this signal.
    Signal(i32),
    /// L1 went down under the command, or hangs: what happened, and the last that L1 and QEMU said.
    Crash(String),
    /// It was ended since its time was up: the same.
    Overdue(String),
}

impl Default for Testbed {
    fn default() -> Self {
        Self {
            shares: Vec::new(),
            count: false,
            cpus: CPUS,
            memory: MEMORY_MIB,
            limit: None,
            command: Vec::new(),
        }
    }
}

/// The packages that the testbed would install.
pub(crate) fn missing_tools() -> Vec<&'static str> {
    let tools = machine::TOOLS
        .iter()
        .chain(image::TOOLS)
        .chain(shares::missing_daemon());
    let mut packages: Vec<_> = tools
        .filter(|tool| tool.is_missing())
        .map(|tool| tool.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Runs the command in L1 and returns its exit status.
pub(crate) fn run(testbed: &Testbed) -> Result<i32> {
    match run_to_any_end(testbed)? {
        End::Exit(status) => Ok(status),
        End::Signal(signal) => Ok(128 + signal),
        End::Crash(what) | End::Overdue(what) => bail!("testbed: {what}"),
    }
}

/// Runs the command in L1. An error is one of the testbed itself, before the command runs.
pub(crate) fn run_to_any_end(testbed: &Testbed) -> Result<End> {
    packages::ensure_installed(machine::TOOLS)?;
    shares::ensure_daemon()?;
    let plan = shares::plan(&testbed.shares)?;
    let emulator = Emulator::ensure()?;
    let image = image::ensure()?;
    remove_remains();
    let dir = tempfile::Builder::new()
        .prefix(&format!("husk-testbed-{}-", std::process::id()))
        .tempdir()
        .context("cannot create a temporary directory")?;

    let (sender, events) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    let from_signals = sender.clone();
    thread::spawn(move || {
        for signal in &mut signals {
            drop(from_signals.send(Event::Signal(signal)));
        }
    });

    let prefix = Some(paths::prefix()).filter(|prefix| prefix.is_dir());
    let token = dir.path().to_string_lossy().into_owned();
    let script = script::compose(testbed, &plan, prefix.is_some(), &token)?;
    let mut children = Children(Vec::new());
    let mut mounts: Vec<(String, &Path)> = plan
        .iter()
        .map(|share| (share.tag.clone(), share.dir.as_path()))
        .collect();
    mounts.extend(
        prefix
            .as_deref()
            .map(|prefix| (script::PREFIX_TAG.to_owned(), prefix)),
    );
    for (tag, shared) in &mounts {
        let socket = dir.path().join(format!("{tag}.sock"));
        children.0.push(shares::serve(
            shared,
            &socket,
            &dir.path().join(format!("{tag}.log")),
        )?);
    }
    let ports = Ports::listen(dir.path())?;
    let tags: Vec<&str> = mounts.iter().map(|(tag, _)| tag.as_str()).collect();
    children.0.push(machine::start(
        &emulator,
        testbed,
        &image,
        &tags,
        dir.path(),
    )?);
    ports.relay(script, &token, &sender);
    let limits = Limits {
        whole: testbed.limit,
        silence: (!testbed.count).then_some(SILENCE),
    };
    let machine = children.0.last_mut().context("no machine")?;
    Supervision::new(dir.path(), limits).run(&events, machine)
}

/// Processes that end when this is dropped, the machine before those that serve it.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            // It may have ended by itself, and there is nobody to tell if not.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A command that the kernel kills when this process ends in any way.
fn tied_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.arg(program);
    command
}

/// Removes what a run that was killed has left in the temporary directory.
fn remove_remains() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix("husk-testbed-"))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if let Some(process) = process
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}
