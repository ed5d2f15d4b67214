//! Images without an engine: `husk run --image`, and guests that boot from disks that husk-rootfs made, with the agent as init.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::rpc::{Reply, Request};
use protocol::{READY_PORT, VERSION, frame};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::bundle::Bundle;
use tests::husk::husk;
use tests::leaks::watched;
use tests::machine::{KERNEL, Machine, Running};
use tests::output::{self, shell};

/// The agent, as a program.
const AGENT: &str = "/usr/local/share/husk/husk-agent";

/// A boot from a compressed disk through a tree of hashes, in the testbed.
const LIMIT: Duration = Duration::from_secs(120);

const CMDLINE: &str = "console=ttyS0 loglevel=3 panic=-1";

/// Content of the image that no boot reads, in bytes.
const BALLAST: u64 = 8 << 20;

/// An OCI layout `layout` with a busybox and a program that greets, in a directory of its own. With ballast there is a large file more.
struct Layout(TempDir);

impl Layout {
    fn new(ballast: bool) -> Result<Self> {
        let dir = TempDir::with_prefix_in("husk-layout-", "/var/tmp")?;
        let bundle = Bundle::busybox()?;
        let rootfs = bundle.path().join("rootfs");
        if ballast {
            let mut noise = Vec::new();
            File::open("/dev/urandom")?
                .take(BALLAST)
                .read_to_end(&mut noise)?;
            fs::write(rootfs.join("ballast"), noise)?;
        }
        let blobs = dir.path().join("layout/blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let layer = dir.path().join("layer");
        shell(&format!(
            "tar -C {} -cf {} .",
            rootfs.display(),
            layer.display()
        ))?
        .ok();
        let (layer, layer_size) = blob(&blobs, &layer)?;
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "Entrypoint": ["/bin/sh", "-c", "echo $GREETING from $PWD: $0 $*"], "Cmd": ["nobody"],
                "Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/tmp",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        });
        let document = |value: &Value| -> Result<(String, u64)> {
            let path = dir.path().join("document");
            fs::write(&path, value.to_string())?;
            blob(&blobs, &path)
        };
        let (config, config_size) = document(&config)?;
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let (digest, size) = document(&json!({
            "schemaVersion": 2, "mediaType": manifest,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size}],
        }))?;
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": manifest, "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "greeter"},
        }]});
        let layout = dir.path().join("layout");
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )?;
        Ok(Self(dir))
    }

    /// As it is named.
    fn reference(&self) -> String {
        format!("oci:{}/layout:greeter", self.0.path().display())
    }
}

/// Moves a file to its place among the blobs; returns its digest and size.
fn blob(blobs: &Path, file: &Path) -> Result<(String, u64)> {
    let sum = output::run(Command::new("sha256sum").arg(file), b"")?;
    let sum = sum.ok().split(' ').next().context("no digest")?.to_owned();
    let size = fs::metadata(file)?.len();
    fs::rename(file, blobs.join(&sum))?;
    Ok((format!("sha256:{sum}"), size))
}

#[test]
fn an_image_runs_without_an_engine() -> Result<()> {
    watched(|| {
        let layout = Layout::new(false)?;
        let reference = layout.reference();
        for (arguments, said) in [
            (&[][..], "hello from /tmp: nobody"),
            (&["--", "you", "and me"][..], "hello from /tmp: you and me"),
        ] {
            let run = husk(&[&["run", "--image", &reference], arguments].concat())?;
            ensure!(run.ok() == said, "{run:?}");
        }
        let missing = reference.replace("greeter", "nothing");
        let run = husk(&["run", "--image", &missing])?;
        ensure!(
            !run.status.success() && run.stderr.contains("nothing"),
            "{run:?}"
        );
        Ok(())
    })
}

/// What a guest boots from: a file that husk-rootfs made of an image and the agent.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Initrd,
    Disk(&'static [&'static str]),
}

/// Makes the file as `$DIR/root` of a machine. Returns the machine.
fn machine(image: &str, from: From) -> Result<Machine> {
    let place = TempDir::with_prefix("husk-image-")?;
    let root = place.path().join("root");
    let mut make = Command::new("husk-rootfs");
    match from {
        From::Initrd => make.args(["initrd", "--output"]).arg(&root).arg(image),
        From::Disk(kind) => make.args(kind).arg(image).arg(&root),
    };
    let made = output::run(make.args(["--agent", AGENT]), b"")?;
    made.ok();
    let boot = match from {
        From::Initrd => json!({"kernel": KERNEL, "initrd": "$DIR/root", "cmdline": CMDLINE}),
        From::Disk(kind) => {
            let root = format!("root=/dev/vda ro rootfstype={} init=/init", kind[0]);
            json!({"kernel": KERNEL, "cmdline": format!("{CMDLINE} {root}")})
        }
    };
    let mut devices = vec![json!({"type": "vsock", "socket": "$DIR/vsock"})];
    if from != From::Initrd {
        devices.push(json!({"type": "blk", "path": "$DIR/root", "read_only": true}));
    }
    let machine = Machine::new(&json!({
        "memory": {"size_mib": 256},
        "boot": boot,
        "serial": {"mode": "file", "path": "$DIR/serial"},
        "devices": devices,
    }))?;
    fs::rename(&root, machine.file("root"))?;
    Ok(machine)
}

/// Boots until the agent calls, and has it greet.
fn greeted(machine: &Machine) -> Result<(Running, UnixStream)> {
    let calls = UnixListener::bind(machine.file(&format!("vsock_{READY_PORT}")))?;
    calls.set_nonblocking(true)?;
    let mut vmm = machine.start()?;
    let mut agent = None;
    output::until("the agent calls", LIMIT, || {
        agent = calls.accept().ok();
        agent.is_some() || matches!(vmm.try_wait(), Ok(Some(_)))
    })?;
    let Some((agent, _)) = agent else {
        bail!("{}", fs::read_to_string(machine.file("serial"))?);
    };
    agent.set_nonblocking(false)?;
    agent.set_read_timeout(Some(LIMIT))?;
    frame::write(&agent, &Request::Hello { version: VERSION })?;
    let reply: Reply = frame::read(&agent)?;
    ensure!(
        matches!(
            reply,
            Reply::Hello {
                version: VERSION,
                ..
            }
        ),
        "{reply:?}"
    );
    Ok((vmm, agent))
}

/// What a process has in memory, in MiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(number.context(status.clone())?.trim().parse::<u64>()? >> 10)
}

/// Boots, and ends the machine again as a runtime does. Returns what it had in memory when the agent had answered.
fn boots(image: &str, from: From) -> Result<u64> {
    let machine = machine(image, from)?;
    let (mut vmm, agent) = greeted(&machine)?;
    let memory = resident(vmm.id())?;
    frame::write(&agent, &Request::Shutdown {})?;
    let ended = output::wait(&mut vmm, LIMIT)?;
    let serial = fs::read_to_string(machine.file("serial"))?;
    ensure!(ended.success(), "{ended}: {serial}");
    Ok(memory)
}

#[test]
fn a_guest_boots_from_disks_and_holds_less_in_memory_than_from_an_initrd() -> Result<()> {
    watched(|| {
        let layout = Layout::new(true)?;
        let image = layout.reference();
        let initrd = boots(&image, From::Initrd)?;
        let disks: [&[&str]; 3] = [&["erofs"], &["erofs", "--compress", "lz4"], &["ext4"]];
        for kind in disks {
            let disk = boots(&image, From::Disk(kind)).with_context(|| format!("{kind:?}"))?;
            println!(
                "{}: {disk} MiB in memory, from an initrd {initrd}",
                kind.join(" ")
            );
            ensure!(
                disk + (BALLAST >> 20) <= initrd,
                "{kind:?}: {disk}, {initrd}"
            );
        }
        Ok(())
    })
}
