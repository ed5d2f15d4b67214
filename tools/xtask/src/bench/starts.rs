//! What a user waits for: husk's own kernel and initrd until the agent calls, and a container from command line to exit code,
//! next to runc.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::frame;
use protocol::rpc::{Reply, Request};
use protocol::{READY_PORT, VERSION};
use serde_json::{Value, json};

use super::peers::{CMDLINE, KERNEL, MEMORY_MIB};

/// Where the testbed has husk's initrd.
const INITRD: &str = "/usr/local/share/husk/initrd.img";
/// How long the agent may take: it has failed then.
const AGENT_LIMIT: Duration = Duration::from_secs(60);

/// One thing that is started, and the instructions it takes.
pub(super) struct Start {
    pub(super) name: String,
    pub(super) instructions: u64,
}

/// Measures each once to warm the caches, then takes the median of `runs`. All files lie on L1's own disks.
pub(super) fn measure(runs: u32) -> Result<Vec<Start>> {
    let dir = std::env::temp_dir().join("husk-bench");
    let bundle = bundle(&dir)?;
    let agent = || agent(&dir);
    let husk = || container("husk", &bundle);
    let runc = || container("runc", &bundle);
    let all: [(&str, &dyn Fn() -> Result<u64>); 3] = [
        ("exec of husk-vmm to the agent's first answer", &agent),
        ("husk run of /bin/true", &husk),
        ("runc run of /bin/true", &runc),
    ];
    all.iter()
        .map(|(name, once)| {
            eprintln!("measuring {name}");
            let instructions = median(runs, once).with_context(|| format!("cannot time {name}"))?;
            Ok(Start {
                name: (*name).to_owned(),
                instructions,
            })
        })
        .collect()
}

fn median(runs: u32, once: &dyn Fn() -> Result<u64>) -> Result<u64> {
    once()?;
    let mut times = (0..runs).map(|_| once()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .context("no run was asked for")
}

/// A bundle whose only program is a static one that does nothing.
fn bundle(dir: &Path) -> Result<PathBuf> {
    let bundle = dir.join("bundle");
    let bin = bundle.join("rootfs/bin");
    fs::create_dir_all(&bin)?;
    fs::copy("/bin/busybox", bin.join("true")).context("cannot copy busybox")?;
    let config = bundle.join("config.json");
    if !config.exists() {
        let status = Command::new("runc")
            .arg("spec")
            .current_dir(&bundle)
            .status()?;
        ensure!(status.success(), "runc spec ended with {status}");
    }
    let mut spec: Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/true"]);
    fs::write(&config, spec.to_string())?;
    Ok(bundle)
}

fn container(runtime: &str, bundle: &Path) -> Result<u64> {
    let mut command = Command::new(runtime);
    command
        .args(["run", "--bundle"])
        .arg(bundle)
        .arg("husk-bench");
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status()?;
    let time = start.elapsed();
    ensure!(status.success(), "{runtime} ended with {status}");
    Ok(u64::try_from(time.as_nanos())?)
}

/// The machine that the runtime makes, until the agent has called and answered.
fn agent(dir: &Path) -> Result<u64> {
    let socket = dir.join("v");
    let ready = dir.join(format!("v_{READY_PORT}"));
    for old in [&socket, &ready] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let config = dir.join("sandbox.json");
    let machine = json!({
        "vcpus": 1,
        "memory": { "size_mib": MEMORY_MIB },
        "boot": { "kernel": KERNEL, "initrd": INITRD, "cmdline": CMDLINE },
        "serial": { "mode": "file", "path": dir.join("console.log") },
        "devices": [
            { "type": "rng" },
            { "type": "vsock", "socket": socket },
            { "type": "fs", "tag": "husk" },
        ],
    });
    fs::write(&config, machine.to_string())?;
    let listener = UnixListener::bind(&ready)?;
    let start = Instant::now();
    let mut vmm = Command::new("husk-vmm")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .spawn()?;
    let answered = first_answer(listener);
    let time = start.elapsed();
    vmm.kill()?;
    vmm.wait()?;
    answered.context("the agent did not answer")?;
    Ok(u64::try_from(time.as_nanos())?)
}

/// Waits for the agent's call, and for its answer to a greeting. On a thread, as nothing else bounds the wait for a call.
fn first_answer(listener: UnixListener) -> Result<()> {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more if it took too long.
        drop(sender.send(greet(&listener)));
    });
    let late = || format!("nothing within {AGENT_LIMIT:?}");
    answer.recv_timeout(AGENT_LIMIT).with_context(late)?
}

fn greet(listener: &UnixListener) -> Result<()> {
    let (stream, _) = listener.accept()?;
    frame::write(&stream, &Request::Hello { version: VERSION })?;
    match frame::read(&stream)? {
        Reply::Hello { .. } => Ok(()),
        other => bail!("it answered {other:?}"),
    }
}
