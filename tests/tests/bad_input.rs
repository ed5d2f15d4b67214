//! Bad input: one line of typed error that names the field or the object, soon, and nothing left.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::husk::{self, husk};
use tests::leaks::watched;
use tests::machine::{INITRD, KERNEL, Machine};
use tests::output::{self, Output};

/// The figure of SECURITY.md S13 is 100 ms on a real machine; the testbed is an emulator.
const SOON: Duration = Duration::from_secs(2);

fn config() -> Value {
    json!({"boot": {"kernel": KERNEL, "initrd": INITRD, "cmdline": "console=ttyS0"}, "devices": []})
}

/// `husk-vmm` refuses the config with code 2, in one line that has `named`.
fn refuses(machine: &Machine, named: &str) -> Result<()> {
    watched(|| {
        let start = Instant::now();
        let out = machine
            .run()
            .with_context(|| format!("{named} is accepted"))?;
        ensure!(
            start.elapsed() < SOON,
            "{named}: took {:?}",
            start.elapsed()
        );
        ensure!(out.fails_with(2).contains(named), "{named}: {out:?}");
        Ok(())
    })
}

fn refuses_value(pointer: &str, value: Value, named: &str) -> Result<()> {
    let mut config = config();
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    config.pointer_mut(parent).unwrap_or(&mut Value::Null)[key] = value;
    refuses(&Machine::new(&config)?, named)
}

/// What is wrong, where, and what the error names.
fn wrong_values() -> Vec<(&'static str, Value, &'static str)> {
    let mut values = wrong_machine_values();
    values.extend(wrong_device_values());
    values
}

fn wrong_machine_values() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/vcpus", json!(0), "vcpus"),
        ("/vcpus", json!(33), "vcpus"),
        ("/vcpus", json!(-1), "vcpus"),
        ("/vcpus", json!("two"), "vcpus"),
        ("/vcpus", json!(null), "vcpus"),
        ("/vcpus", json!(1.5), "vcpus"),
        ("/memory", json!({"size_mib": 1}), "memory.size_mib"),
        ("/memory", json!({"size_mib": u64::MAX}), "memory.size_mib"),
        ("/memory", json!({"size_mib": 256, "extra": 1}), "memory"),
        ("/memory", json!([]), "memory"),
        ("/surprise", json!(1), "surprise"),
        ("/boot", json!({"cmdline": ""}), "kernel"),
        ("/boot", json!({"kernel": "/no/such/kernel"}), "boot.kernel"),
        ("/boot", json!({"kernel": "/tmp"}), "boot.kernel"),
        ("/boot", json!({"kernel": "/etc/passwd"}), "boot.kernel"),
        ("/boot", json!({"kernel": "/dev/null"}), "boot.kernel"),
        ("/boot", json!({"kernel": "nul\u{0}byte"}), "boot.kernel"),
        (
            "/boot",
            json!({"kernel": KERNEL, "initrd": "/no/such/initrd"}),
            "boot.initrd",
        ),
        (
            "/boot",
            json!({"kernel": KERNEL, "cmdline": "x".repeat(2048)}),
            "boot.cmdline",
        ),
        (
            "/boot",
            json!({"kernel": KERNEL, "cmdline": "nul\u{0}byte"}),
            "boot.cmdline",
        ),
        ("/serial", json!({"mode": "carrier pigeon"}), "serial"),
        (
            "/serial",
            json!({"mode": "file", "path": "/no/such/dir/file"}),
            "serial",
        ),
    ]
}

fn wrong_device_values() -> Vec<(&'static str, Value, &'static str)> {
    let share = |share: Value| json!([{"type": "fs", "tag": "t", "shares": [share]}]);
    vec![
        ("/devices", json!([{"type": "floppy"}]), "devices[0]"),
        (
            "/devices",
            json!([{"type": "rng"}, {"type": "blk", "path": "/no/disk"}]),
            "devices[1].path",
        ),
        (
            "/devices",
            json!([{"type": "blk", "path": "/dev/null"}]),
            "devices[0].path",
        ),
        (
            "/devices",
            json!([{"type": "vsock", "socket": "$DIR/s", "cid": 2}]),
            "devices[0].cid",
        ),
        (
            "/devices",
            json!([{"type": "fs", "tag": ""}]),
            "devices[0].tag",
        ),
        (
            "/devices",
            share(json!({"name": "../x", "source": "/"})),
            "devices[0].shares[0].name",
        ),
        (
            "/devices",
            share(json!({"name": "x", "source": "/no/dir"})),
            "devices[0].shares[0].source",
        ),
    ]
}

#[test]
fn wrong_values_of_the_sandbox_config_are_named() -> Result<()> {
    for (pointer, value, named) in wrong_values() {
        refuses_value(pointer, value, named)?;
    }
    Ok(())
}

#[test]
fn text_that_is_no_sandbox_config_is_refused() -> Result<()> {
    let deep = "[".repeat(10_000);
    for text in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{\"boot\":\xff}",
        deep.as_bytes(),
    ] {
        refuses(&Machine::raw(text)?, "config.json")?;
    }
    refuses(&Machine::raw(b"{\"vcpus\": 1, \"vcpus\": 2}")?, "vcpus")?;
    let beyond = b"{\"memory\": {\"size_mib\": 18446744073709551616}}";
    refuses(&Machine::raw(beyond)?, "memory.size_mib")?;
    refuses(&Machine::raw(&vec![b' '; 64 << 20])?, "config.json")
}

#[test]
fn a_truncated_kernel_is_refused() -> Result<()> {
    let kernel = std::fs::read(KERNEL)?;
    for size in [0, 3, 63, 64, 100, 4096, kernel.len() / 2] {
        let mut config = config();
        config["boot"]["kernel"] = json!("$DIR/kernel");
        let machine = Machine::new(&config)?;
        std::fs::write(machine.file("kernel"), &kernel[..size])?;
        refuses(&machine, "boot.kernel")?;
    }
    Ok(())
}

/// Runs a command where `/dev` is empty but for what every program needs.
fn without_kvm(command: &str) -> Result<Output> {
    let empty = "for node in null zero; do touch /tmp/$node; mount --bind /dev/$node /tmp/$node; done; \
                 mount --rbind /tmp /dev";
    let script = format!("mount -t tmpfs none /tmp && {{ {empty}; }} && exec {command}");
    let mut unshare = Command::new("unshare");
    output::run(unshare.args(["--mount", "sh", "-c", &script]), b"")
}

#[test]
fn a_host_without_kvm_is_told_so() -> Result<()> {
    watched(|| {
        let kernel = json!({"boot": {"kernel": KERNEL, "initrd": INITRD, "cmdline": ""}});
        // What is in /tmp is not seen there.
        let dir = tempfile::TempDir::with_prefix_in("husk-no-kvm-", "/var/tmp")?;
        let config = dir.path().join("config.json");
        std::fs::write(&config, kernel.to_string())?;
        let start = Instant::now();
        let out = without_kvm(&format!("husk-vmm --config {}", config.display()))?;
        ensure!(start.elapsed() < SOON, "took {:?}", start.elapsed());
        let said = out.fails_with(3);
        ensure!(
            said.contains("no /dev/kvm") && said.contains("cargo xtask testbed"),
            "{said}"
        );
        Ok(())
    })
}

/// `husk run` refuses the bundle with code 1, in one line that has `named`.
fn run_refuses(bundle: &Bundle, id: &str, named: &str) -> Result<()> {
    watched(|| {
        let start = Instant::now();
        let path = bundle.path().to_str().unwrap_or_default();
        let out = husk(&["run", "--bundle", path, id])?;
        ensure!(
            start.elapsed() < SOON,
            "{named}: took {:?}",
            start.elapsed()
        );
        ensure!(out.fails_with(1).contains(named), "{named}: {out:?}");
        Ok(())
    })
}

#[test]
fn bad_bundles_are_refused_by_name() -> Result<()> {
    let id = husk::unique_id();
    let no_config = Bundle::busybox()?;
    std::fs::remove_file(no_config.path().join("config.json"))?;
    run_refuses(&no_config, &id, "config.json")?;
    let no_rootfs = Bundle::busybox()?;
    std::fs::remove_dir_all(no_rootfs.path().join("rootfs"))?;
    run_refuses(&no_rootfs, &id, "rootfs")?;
    run_refuses(&Bundle::busybox()?.raw_config(b"{")?, &id, "config.json")?;
    run_refuses(&Bundle::busybox()?.raw_config(b"\xff")?, &id, "config.json")?;
    run_refuses(
        &Bundle::busybox()?.set("/process/args", json!([]))?,
        &id,
        "args",
    )?;
    run_refuses(
        &Bundle::busybox()?.set("/process/args", json!(7))?,
        &id,
        "args",
    )
}

#[test]
fn bad_ids_are_refused() -> Result<()> {
    let bundle = Bundle::busybox()?;
    for id in ["../up", "a/b", "..", ".", "", "with space", "nul\u{1}"] {
        run_refuses(&bundle, id, "id")?;
    }
    Ok(())
}

#[test]
fn an_id_in_use_is_refused_and_the_container_lives_on() -> Result<()> {
    let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
    let container = husk::Container::running(&bundle)?;
    run_refuses(&Bundle::busybox()?, container.id(), container.id())?;
    ensure!(container.status()? == "running");
    Ok(())
}

#[test]
fn verbs_that_need_a_program_refuse_a_dead_sandbox() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = husk::Container::running(&bundle)?;
        husk::kill(container.vmm()?)?;
        container.wait_for("stopped", SOON)?;
        for (verb, args) in [("exec", &["true"][..]), ("kill", &["TERM"]), ("start", &[])] {
            let out = container.verb(verb, args)?;
            ensure!(!out.status.success(), "{verb}: {out:?}");
            ensure!(
                out.stderr.trim_end().lines().count() == 1,
                "{verb}: {out:?}"
            );
        }
        container.verb("delete", &[])?.ok();
        Ok(())
    })
}

#[test]
fn verbs_on_a_container_that_does_not_exist_fail() -> Result<()> {
    watched(|| {
        for verb in ["state", "start", "kill", "delete"] {
            let out = husk(&[verb, "nobody"])?;
            ensure!(
                out.fails_with(1).contains("does not exist"),
                "{verb}: {out:?}"
            );
        }
        Ok(())
    })
}
