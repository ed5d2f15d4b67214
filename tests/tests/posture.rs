//! What a running VMM still has, read from `/proc`: no more than docs/security.md says.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::leaks::watched;
use tests::machine::{INITRD, KERNEL, Machine};
use tests::output;

/// Capabilities of the fs thread (`capability.h`): CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP.
const FS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 27 | 1 << 31;

fn field(status: &str, name: &str) -> Result<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    Ok(line.with_context(|| format!("no {name}"))?.to_owned())
}

/// The threads of `process`, by name.
fn threads(process: &Path) -> Result<Vec<(String, PathBuf)>> {
    let named = |entry: std::io::Result<fs::DirEntry>| {
        let thread = entry?.path();
        let name = fs::read_to_string(thread.join("comm"))?;
        Ok((name.trim_end().to_owned(), thread))
    };
    fs::read_dir(process.join("task"))?.map(named).collect()
}

fn thread_is_confined(name: &str, thread: &Path) -> Result<()> {
    let status = fs::read_to_string(thread.join("status"))?;
    let capabilities = |set| -> Result<u64> { Ok(u64::from_str_radix(&field(&status, set)?, 16)?) };
    let kept = if name.ends_with(":fs") { FS } else { 0 };
    for set in ["CapPrm", "CapEff"] {
        ensure!(
            capabilities(set)? == kept,
            "{name}: {set} {:#x}",
            capabilities(set)?
        );
    }
    for set in ["CapInh", "CapAmb"] {
        ensure!(capabilities(set)? == 0, "{name} has some of {set}");
    }
    ensure!(field(&status, "NoNewPrivs")? == "1", "{name}: {status}");
    ensure!(field(&status, "Seccomp")? == "2", "{name}: {status}");
    Ok(())
}

fn process_is_confined(process: &Path) -> Result<()> {
    for namespace in ["mnt", "ipc", "uts", "cgroup", "net"] {
        let of = |whose: &Path| fs::read_link(whose.join("ns").join(namespace));
        ensure!(
            of(process)? != of(Path::new("/proc/self"))?,
            "it is in the host's {namespace} namespace"
        );
    }
    let mut root: Vec<_> = fs::read_dir(process.join("root"))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    root.sort();
    ensure!(root == ["attach", "proc", "shares", "vsock"], "{root:?}");
    let mounts = fs::read_to_string(process.join("mountinfo"))?;
    let writable = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(4);
        let (place, options) = (words.next()?, words.next()?);
        options
            .split(',')
            .any(|option| option == "rw")
            .then_some(place)
    });
    let writable: Vec<&str> = writable.collect();
    ensure!(writable == ["/attach"], "writable: {writable:?}");
    let limits = fs::read_to_string(process.join("limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.context("no limit")?.split_whitespace().collect();
    ensure!(core[4..6] == ["0", "0"], "{core:?}");
    Ok(())
}

#[test]
fn a_running_vmm_has_given_up_all_but_what_it_needs() -> Result<()> {
    watched(|| {
        let machine = Machine::new(&json!({
            "vcpus": 2,
            "memory": {"size_mib": 128},
            "boot": {"kernel": KERNEL, "initrd": INITRD, "cmdline": "console=ttyS0"},
            "serial": {"mode": "file", "path": "$DIR/console"},
            "devices": [
                {"type": "rng"},
                {"type": "blk", "path": "$DIR/disk"},
                {"type": "fs", "tag": "husk", "shares": [
                    {"name": "fixed", "source": "$DIR/share", "read_only": true},
                ]},
            ],
        }))?;
        fs::write(machine.file("disk"), vec![0; 1 << 20])?;
        fs::create_dir(machine.file("share"))?;
        let mut vmm = machine.start()?;
        let process = Path::new("/proc").join(vmm.id().to_string());
        output::until("the guest runs", Duration::from_secs(30), || {
            fs::metadata(machine.file("console")).is_ok_and(|console| console.len() > 0)
        })?;
        let threads = threads(&process)?;
        ensure!(threads.len() == 5, "{threads:?}");
        for (name, thread) in &threads {
            thread_is_confined(name, thread)?;
        }
        process_is_confined(&process)?;
        machine.api("PUT", "/vm/kill")?;
        ensure!(output::wait(&mut vmm, Duration::from_secs(10))?.code() == Some(137));
        Ok(())
    })
}
