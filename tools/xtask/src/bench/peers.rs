//! How each VMM is told to boot the benchmark's guest: one CPU, 256 MiB, a serial port on stdout, nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

/// Guest memory, in MiB.
pub(super) const MEMORY_MIB: u64 = 256;
/// What the runtime boots with, for all.
pub(super) const CMDLINE: &str = "console=ttyS0 loglevel=3 panic=-1 reboot=t noreplace-smp";
/// Where the testbed has husk's kernel.
pub(super) const KERNEL: &str = "/usr/local/share/husk/vmlinux";

/// The VMMs that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Husk,
    Qemu,
}

impl Peer {
    pub(super) const ALL: [Self; 2] = [Self::Husk, Self::Qemu];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Husk => "husk-vmm",
            Self::Qemu => "QEMU microvm",
        }
    }

    /// The command that boots the guest; `idle` makes the guest stay.
    pub(super) fn command(self, initrd: &Path, idle: bool) -> Result<Command> {
        let mode = if idle { " bench=idle" } else { "" };
        let cmdline = format!("{CMDLINE}{mode}");
        match self {
            Self::Husk => husk(initrd, &cmdline),
            Self::Qemu => Ok(qemu(initrd, &cmdline)),
        }
    }
}

fn husk(initrd: &Path, cmdline: &str) -> Result<Command> {
    let config = std::env::temp_dir().join("husk-bench.json");
    let machine = json!({
        "vcpus": 1,
        "memory": { "size_mib": MEMORY_MIB },
        "boot": { "kernel": KERNEL, "initrd": initrd, "cmdline": cmdline },
        "serial": { "mode": "stdio" },
    });
    fs::write(&config, machine.to_string())?;
    let mut command = Command::new("husk-vmm");
    command.arg("--config").arg(config);
    Ok(command)
}

/// QEMU at its smallest: no option ROMs, no legacy timer or interrupt controller, no default devices.
fn qemu(initrd: &Path, cmdline: &str) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-M",
        "microvm,accel=kvm,pit=off,pic=off,x-option-roms=off,auto-kernel-cmdline=off,acpi=on",
        "-cpu",
        "host",
        "-smp",
        "1",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
    ]);
    command
        .arg("-m")
        .arg(MEMORY_MIB.to_string())
        .args(["-kernel", KERNEL, "-append", cmdline]);
    command.arg("-initrd").arg(initrd);
    command
}
