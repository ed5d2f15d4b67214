//! `husk-vmm` by itself: other people's kernels, sizes, disks, exit codes.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::leaks::watched;
use tests::machine::{KERNEL, Machine, initrd};
use tests::output;

const INIT: &str = "#!/bin/sh
mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t sysfs sys /sys
echo processors $(grep -c ^processor /proc/cpuinfo)
echo memory $(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024))
";

/// An initrd whose init is busybox's shell with a script, which ends by `end`.
fn shell_initrd(machine: &Machine, script: &str) -> Result<()> {
    let busybox = std::fs::read("/bin/busybox")?;
    let install = "#!/bin/busybox sh\n/bin/busybox mkdir -p /proc /dev /sys /mnt\n/bin/busybox --install -s /bin\nexport PATH=/bin\n";
    let init = format!("{install}{INIT}{script}");
    initrd(
        &[
            ("/bin/busybox", 0o755, &busybox),
            ("/init", 0o755, init.as_bytes()),
        ],
        &machine.file("initrd"),
    )
}

fn machine(kernel: &str, vcpus: u8, size_mib: u32) -> Result<Machine> {
    Machine::new(&json!({
        "vcpus": vcpus,
        "memory": {"size_mib": size_mib},
        "boot": {"kernel": kernel, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet panic=-1"},
        "serial": {"mode": "stdio"},
    }))
}

fn boots(kernel: &str, vcpus: u8, size_mib: u32) -> Result<()> {
    watched(|| {
        let machine = machine(kernel, vcpus, size_mib)?;
        shell_initrd(&machine, "poweroff -f\n")?;
        let out = machine.run()?;
        ensure!(out.code() == 0, "{vcpus} vcpus, {size_mib} MiB: {out:?}");
        ensure!(
            out.stdout.contains(&format!("processors {vcpus}\r")),
            "{out:?}"
        );
        let memory = out
            .stdout
            .split("memory ")
            .nth(1)
            .and_then(|rest| rest.split('\r').next());
        let memory: u32 = memory.unwrap_or("0").parse()?;
        ensure!(
            memory <= size_mib && memory + 100 > size_mib - size_mib / 8,
            "{memory} of {size_mib} MiB"
        );
        Ok(())
    })
}

#[test]
fn our_kernel_boots_with_one_and_more_processors_and_little_and_much_memory() -> Result<()> {
    for (vcpus, size_mib) in [(1, 128), (4, 256), (1, 2048)] {
        boots(KERNEL, vcpus, size_mib)?;
    }
    Ok(())
}

#[test]
#[ignore = "32 processors on the testbed's two can stall its kernel; run by `cargo xtask test --all`"]
fn the_largest_machine_boots() -> Result<()> {
    boots(KERNEL, 32, 512)
}

#[test]
fn debians_own_kernel_boots() -> Result<()> {
    let kernel = output::run(
        Command::new("sh").args(["-c", "ls /boot/vmlinuz-*-cloud-amd64"]),
        b"",
    )?;
    for (vcpus, size_mib) in [(1, 128), (4, 2048)] {
        boots(kernel.ok(), vcpus, size_mib)?;
    }
    Ok(())
}

#[test]
fn the_exit_code_says_how_the_guest_ended() -> Result<()> {
    for (end, code) in [
        ("poweroff -f", 0),
        ("reboot -f", 0),
        (
            "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger",
            4,
        ),
    ] {
        watched(|| {
            let machine = machine(KERNEL, 1, 128)?;
            shell_initrd(&machine, &format!("{end}\n"))?;
            let out = machine.run()?;
            ensure!(out.code() == code, "{end}: {out:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_disk_is_read_and_written_and_a_read_only_one_is_not() -> Result<()> {
    watched(|| {
        let machine = Machine::new(&json!({
            "memory": {"size_mib": 128},
            "boot": {"kernel": KERNEL, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet"},
            "serial": {"mode": "stdio"},
            "devices": [
                {"type": "blk", "path": "$DIR/disk", "serial": "husk-disk"},
                {"type": "blk", "path": "$DIR/fixed", "read_only": true},
            ],
        }))?;
        shell_initrd(&machine, "cat /sys/block/vda/serial; echo
        head -c 11 /dev/vdb; echo hello disk | dd of=/dev/vda conv=fsync 2>/dev/null
        cat /sys/block/vdb/ro; dd if=/init of=/dev/vdb 2>&1 | grep -o 'not permitted'; poweroff -f\n")?;
        std::fs::write(machine.file("disk"), vec![0; 1 << 20])?;
        let mut fixed = vec![0; 1 << 20];
        fixed[..11].copy_from_slice(b"read only!\n");
        std::fs::write(machine.file("fixed"), &fixed)?;
        let out = machine.run()?;
        ensure!(
            out.code() == 0
                && out.stdout.contains("husk-disk")
                && out.stdout.contains("read only!"),
            "{out:?}"
        );
        ensure!(
            std::fs::read(machine.file("disk"))?.starts_with(b"hello disk\n"),
            "{out:?}"
        );
        ensure!(
            std::fs::read(machine.file("fixed"))? == fixed,
            "a read-only disk has changed"
        );
        Ok(())
    })
}

#[test]
fn the_api_pauses_resumes_counts_and_ends_the_machine() -> Result<()> {
    watched(|| {
        let machine = machine(KERNEL, 2, 128)?;
        shell_initrd(&machine, "while :; do sleep 0.1; done\n")?;
        let mut vmm = machine.start()?;
        output::until("the API socket is there", Duration::from_secs(10), || {
            machine.file("api").exists()
        })?;
        ensure!(machine.api("GET", "/vm")?.contains("\"running\""));
        ensure!(machine.api("PUT", "/vm/pause")?.starts_with("HTTP/1.1 20"));
        ensure!(machine.api("GET", "/vm")?.contains("\"paused\""));
        ensure!(machine.api("PUT", "/vm/resume")?.starts_with("HTTP/1.1 20"));
        ensure!(machine.api("GET", "/vm/counters")?.contains("\"exits\""));
        ensure!(machine.api("GET", "/nothing")?.starts_with("HTTP/1.1 404"));
        ensure!(machine.api("PUT", "/vm/kill")?.starts_with("HTTP/1.1 20"));
        ensure!(output::wait(&mut vmm, Duration::from_secs(10))?.code() == Some(137));
        gone(&machine)
    })
}

/// The API's socket goes with the machine.
fn gone(machine: &Machine) -> Result<()> {
    output::until("the API socket is gone", Duration::from_secs(10), || {
        !machine.file("api").exists()
    })
    .map(drop)
}

#[test]
fn signals_that_end_a_process_end_the_machine_and_leave_nothing() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        watched(|| {
            let machine = machine(KERNEL, 1, 128)?;
            shell_initrd(&machine, "echo up; while :; do sleep 0.1; done\n")?;
            let mut vmm = machine.start()?;
            output::until("the API is served", Duration::from_secs(10), || {
                machine.api("GET", "/vm").is_ok()
            })?;
            kill_process(Pid::from_child(&vmm), signal)?;
            let status = output::wait(&mut vmm, Duration::from_secs(10))?;
            let killed = signal == Signal::KILL && status.signal() == Some(Signal::KILL.as_raw());
            ensure!(killed || status.code() == Some(137), "{signal:?}: {status}");
            gone(&machine)
        })?;
    }
    Ok(())
}
