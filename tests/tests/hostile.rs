//! A hostile guest attacks every device. The machine survives, does not grow, and nothing outside it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::machine::{KERNEL, Machine, initrd};
use tests::network::{Namespace, watched};
use tests::output;

/// Fewest attacks that count as a run: a guest that stops early has not attacked.
const ATTACKS: u32 = 550;

/// Most memory the VMM may have grown by, beside the guest's (SECURITY.md S14), in KiB.
const GROWTH_KIB: u64 = 16 << 10;

/// Memory of the guest, in MiB.
const GUEST_MIB: u64 = 128;

fn attacker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/husk-tests/hostile-guest")
}

/// Memory of a process that is not the guest's: what its private dirty pages outside the guest's mapping come to, in KiB.
fn own_memory(pid: u32) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut own = 0;
    let mut size = 0;
    for line in maps.lines() {
        let number = |rest: &str| {
            rest.trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap_or(0)
        };
        if let Some(rest) = line.strip_prefix("Size:") {
            size = number(rest);
        } else if let Some(rest) = line.strip_prefix("Pss:")
            && size < GUEST_MIB << 8
        {
            own += number(rest);
        }
    }
    Ok(own)
}

/// A network namespace with a tap that answers for 10.9.0.1, and sends nothing of its own accord: frames are answers.
fn wire() -> Result<Namespace> {
    let wire = Namespace::new()?;
    wire.ip("tuntap add name tap0 mode tap")?;
    wire.ip("link set tap0 up addrgenmode none")?;
    wire.ip("address add 10.9.0.1/24 dev tap0")?;
    Ok(wire)
}

/// A machine with one of each device, a read-only disk and a read-only share.
fn target(wire: &Namespace) -> Result<Machine> {
    let machine = Machine::new(&json!({
        "memory": {"size_mib": GUEST_MIB},
        "boot": {"kernel": KERNEL, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet panic=-1"},
        "serial": {"mode": "file", "path": "$DIR/output"},
        "devices": [
            {"type": "rng"},
            {"type": "console", "output": {"mode": "file", "path": "$DIR/console"}},
            {"type": "blk", "path": "$DIR/disk"},
            {"type": "blk", "path": "$DIR/fixed", "read_only": true},
            {"type": "vsock", "socket": "$DIR/vsock"},
            {"type": "net", "tap": "tap0", "netns": wire.path()},
            {"type": "fs", "tag": "attacked", "shares": [
                {"name": "open", "source": "$DIR/open"},
                {"name": "fixed", "source": "$DIR/shut", "read_only": true},
            ]},
        ],
    }))?;
    let attacker = fs::read(attacker()).context("build the attacker first: cargo xtask build")?;
    initrd(&[("/init", 0o755, &attacker)], &machine.file("initrd"))?;
    fs::write(machine.file("disk"), vec![0; 1 << 20])?;
    fs::write(machine.file("fixed"), vec![7; 1 << 20])?;
    for dir in ["open", "shut"] {
        fs::create_dir(machine.file(dir))?;
    }
    fs::write(machine.file("shut/file"), "shut")?;
    Ok(machine)
}

/// Runs the machine to its end; returns by how much the VMM grew meanwhile, in KiB.
fn survive(machine: &Machine) -> Result<u64> {
    let mut vmm = machine.start()?;
    let (mut least, mut most) = (u64::MAX, 0);
    let ended = output::until("the attacks end", Duration::from_secs(500), || {
        if let Ok(own) = own_memory(vmm.id()) {
            least = least.min(own);
            most = most.max(own);
        }
        matches!(vmm.try_wait(), Ok(Some(_)))
    });
    let report = fs::read_to_string(machine.file("output"))?;
    ended.with_context(|| report.clone())?;
    ensure!(
        vmm.wait()?.code() == Some(0),
        "the VMM did not survive:\n{report}"
    );
    Ok(most.saturating_sub(least))
}

#[test]
fn attacks_on_every_device_change_nothing_outside() -> Result<()> {
    watched(|| {
        let wire = wire()?;
        let machine = target(&wire)?;
        let growth = survive(&machine)?;

        let report = fs::read_to_string(machine.file("output"))?;
        let failures: Vec<&str> = report
            .lines()
            .filter(|line| line.contains("FAILED"))
            .collect();
        let summary = report
            .lines()
            .find(|line| line.starts_with("hostile:"))
            .context(report.clone())?;
        let passed: u32 = summary.split(' ').nth(1).context("no count")?.parse()?;
        println!("{summary}; the VMM grew by {growth} KiB");
        ensure!(
            failures.is_empty() && passed >= ATTACKS,
            "{summary}\n{}",
            failures.join("\n")
        );
        ensure!(growth < GROWTH_KIB, "the VMM has grown by {growth} KiB");

        ensure!(
            fs::read(machine.file("fixed"))? == vec![7; 1 << 20],
            "a read-only disk has changed"
        );
        ensure!(fs::read_to_string(machine.file("shut/file"))? == "shut");
        let names = |dir: &str| -> Result<usize> { Ok(fs::read_dir(machine.file(dir))?.count()) };
        ensure!(
            names("shut")? == 1,
            "something appeared in a read-only share"
        );
        ensure!(
            names("open")? == 0,
            "something appeared in a share that nobody wrote to by name"
        );
        Ok(())
    })
}
