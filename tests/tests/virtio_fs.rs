//! Files of the host in a guest: what programs do to them, shares that come and go, and a guest that remembers too many.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tests::bundle::{Bundle, DebianRoot};
use tests::debian_guest::DebianGuest;
use tests::husk;
use tests::leaks::watched;
use tests::machine::{KERNEL, Machine, initrd};
use tests::output::{self, Output};

const LIMIT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(30);

/// What a program may expect of a local file system, as unit tests in Python.
const LOCAL: &str = include_str!("../virtio-fs/local.py");
/// How many they are.
const LOCAL_TESTS: &str = "Ran 18 tests";

#[test]
fn a_c_program_is_compiled_and_run_in_a_container_of_debian() -> Result<()> {
    watched(|| {
        let debian = DebianRoot::new()?;
        let dir = TempDir::with_prefix_in("husk-volume-", "/var/tmp")?;
        let source = "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 7; }\n";
        fs::write(dir.path().join("hello.c"), source)?;
        let bundle = Bundle::debian(&debian)?.bind(dir.path(), "/mnt", &[])?;
        let out = husk::run(&bundle.shell("cd /mnt && gcc -O2 -o hello hello.c && ./hello")?)?;
        ensure!(out.stdout == "compiled\n" && out.code() == 7, "{out:?}");
        ensure!(dir.path().join("hello").exists(), "it is not on the host");
        Ok(())
    })
}

#[test]
fn a_share_behaves_as_a_local_file_system() -> Result<()> {
    watched(|| {
        let guest = DebianGuest::new()?;
        let script = guest.put("local.py", LOCAL.as_bytes())?;
        let here = guest.data().join("here");
        fs::create_dir(&here)?;
        let mut python = Command::new("python3");
        python.args(["-B"]).arg(&script).arg("-v");
        let host = output::run(python.current_dir(&here), b"")?;
        ensure!(
            host.status.success() && host.stderr.contains(LOCAL_TESTS),
            "the host's own file system fails: {host:?}"
        );
        behaves_as_local(&guest)
    })
}

#[test]
fn a_share_whose_writes_the_guest_gathers_behaves_as_a_local_file_system() -> Result<()> {
    watched(|| {
        let guest = DebianGuest::caching("always", true)?;
        guest.put("local.py", LOCAL.as_bytes())?;
        behaves_as_local(&guest)
    })
}

fn behaves_as_local(guest: &DebianGuest) -> Result<()> {
    let script = "mkdir /mnt/there && cd /mnt/there && exec python3 -B /mnt/local.py -v";
    let said = guest.run(script, LIMIT)?;
    ensure!(
        said.status == 0 && said.output.contains(LOCAL_TESTS),
        "{}",
        said.output
    );
    Ok(())
}

#[test]
fn a_share_that_the_guest_does_not_cache_shows_what_the_host_changes() -> Result<()> {
    watched(|| {
        let guest = DebianGuest::caching("never", false)?;
        guest.put("file", b"old")?;
        let script = "cat /mnt/file; echo; touch /mnt/asked; until [ -e /mnt/changed ]; do sleep 0.1; done; cat /mnt/file";
        let data = guest.data().to_owned();
        let host = std::thread::spawn(move || {
            output::until("the guest has read", LIMIT, || data.join("asked").exists())?;
            fs::write(data.join("file"), "new and longer")?;
            fs::write(data.join("changed"), "")?;
            anyhow::Ok(())
        });
        let said = guest.run(script, LIMIT)?;
        host.join().expect("the host's part panicked")?;
        ensure!(said.output == "old\nnew and longer", "{}", said.output);
        Ok(())
    })
}

#[test]
fn what_fio_writes_it_reads_back() -> Result<()> {
    watched(|| {
        let guest = DebianGuest::new()?;
        let verified = |name: &str, options: &str| {
            format!(
                "fio --name={name} --directory=/mnt --rw=randwrite --verify=crc32c --verify_fatal=1 --do_verify=1 {options} && \
             rm /mnt/{name}.*"
            )
        };
        let said = guest.run(
            &[
                verified("buffered", "--ioengine=psync --size=8M --bs=16k"),
                verified("direct", "--ioengine=psync --size=8M --bs=16k --direct=1"),
                verified("mapped", "--ioengine=mmap --size=8M --bs=16k"),
                verified("small", "--ioengine=psync --size=256k --bs=512"),
            ]
            .join(" && "),
            LIMIT,
        )?;
        ensure!(said.status == 0, "{}", said.output);
        ensure!(
            said.output.matches("err= 0").count() == 4,
            "{}",
            said.output
        );
        Ok(())
    })
}

/// A file system of its own in a file, mounted: nothing but what is asked for is written to that file.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new() -> Result<Self> {
        let dir = TempDir::with_prefix_in("husk-disk-", "/var/tmp")?;
        let make = "truncate -s 16M image && mkfs.ext4 -q -O ^has_journal image && mkdir mnt && mount -o loop image mnt";
        let mut shell = Command::new("sh");
        output::run(shell.args(["-ec", make]).current_dir(dir.path()), b"")?.ok();
        Ok(Self { dir })
    }

    fn contains(&self, marker: &[u8]) -> Result<bool> {
        let image = fs::read(self.dir.path().join("image"))?;
        Ok(image.windows(marker.len()).any(|bytes| bytes == marker))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mnt = self.dir.path().join("mnt");
        // What is left mounted is the leak check's to tell.
        drop(output::run(Command::new("umount").arg(mnt), b""));
    }
}

#[test]
fn a_sync_in_a_container_reaches_the_disk_of_the_host() -> Result<()> {
    const MARKER: &[u8] = b"a marker that is nowhere else";
    watched(|| {
        let disk = Disk::new()?;
        let line = "read marker; echo $marker > /mnt/file; echo written; read go; busybox sync; echo synced; read go";
        let bundle = Bundle::busybox()?
            .bind(&disk.dir.path().join("mnt"), "/mnt", &[])?
            .shell(line)?;
        let mut run = husk::spawn(&bundle)?;
        run.say(MARKER)?;
        ensure!(run.line()? == "written");
        ensure!(!disk.contains(MARKER)?, "it is on the disk without a sync");
        run.say(b"go")?;
        ensure!(run.line()? == "synced");
        ensure!(disk.contains(MARKER)?, "it is not on the disk");
        run.say(b"go")?;
        ensure!(run.wait(SOON)?.success());
        Ok(())
    })
}

#[test]
fn the_end_of_a_container_does_not_wait_for_the_disk_of_the_host() -> Result<()> {
    const MARKER: &[u8] = b"another marker that is nowhere else";
    watched(|| {
        let disk = Disk::new()?;
        let mnt = disk.dir.path().join("mnt");
        let bundle = Bundle::busybox()?.bind(&mnt, "/mnt", &[])?;
        husk::run_with_input(&bundle.shell("cat > /mnt/file")?, MARKER)?.ok();
        ensure!(fs::read(mnt.join("file"))? == MARKER);
        ensure!(!disk.contains(MARKER)?, "it has been written back");
        Ok(())
    })
}

/// Changes every page of a file by a mapping, and is gone.
const LAST_MOMENT: &str = "
import mmap, os
with open('/mnt/file', 'r+b') as file:
    pages = mmap.mmap(file.fileno(), 0)
    for at in range(0, len(pages), 4096):
        pages[at:at + 4096] = bytes([at // 4096 % 251]) * 4096
    os._exit(0)
";

#[test]
fn what_a_container_maps_and_changes_last_is_on_the_host() -> Result<()> {
    watched(|| {
        let debian = DebianRoot::new()?;
        let dir = TempDir::with_prefix_in("husk-volume-", "/var/tmp")?;
        let file = dir.path().join("file");
        fs::write(&file, vec![0xff; 16 << 20])?;
        let bundle = Bundle::debian(&debian)?.bind(dir.path(), "/mnt", &[])?;
        husk::run(&bundle.args(&["python3", "-c", LAST_MOMENT])?)?.ok();
        for (number, page) in fs::read(&file)?.chunks(4096).enumerate() {
            let byte = u8::try_from(number % 251)?;
            ensure!(page.iter().all(|is| *is == byte), "page {number} is old");
        }
        Ok(())
    })
}

/// A guest that says READY without a share, meets `late` and `single`, says SEEN and waits until both have gone.
const VISITOR: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t virtiofs husk /mnt
wait_for() { for i in $(seq 300); do "$@" 2>/dev/null && return 0; usleep 100000; done; echo "waited in vain: $*"; poweroff -f; }
gone() { ! [ -e "$1" ]; }
[ -z "$(ls /mnt)" ] && echo READY
wait_for test -e /mnt/late/file
wait_for test -e /mnt/single
echo "late says $(cat /mnt/late/file)"
echo x > /mnt/late/new || echo cannot write
mkdir /mnt/own || echo cannot make
echo more >> /mnt/single
echo SEEN
wait_for gone /mnt/late
wait_for gone /mnt/single
echo GONE
poweroff -f
"#;

#[test]
fn shares_come_and_go_under_a_running_guest() -> Result<()> {
    watched(|| {
        let machine = busybox(VISITOR, &json!([]))?;
        let late = machine.file("late");
        fs::create_dir(&late)?;
        fs::write(late.join("file"), "content")?;
        fs::write(machine.file("single"), "one\n")?;
        let mounts = mounts()?;
        let mut vmm = machine.start()?;
        let pid = vmm.id().to_string();
        says(&machine, "READY")?;
        share(&["attach", "--pid", &pid, "--read-only", "late"], &late)?.ok();
        let single = machine.file("single");
        share(&["attach", "--pid", &pid, "single"], &single)?.ok();
        let own = std::process::id().to_string();
        for (name, source, of, why) in [
            ("late", late.as_path(), &pid, "`late` exists"),
            ("a/b", &late, &pid, "not one path component"),
            ("..", &late, &pid, "not one path component"),
            (
                "none",
                &machine.file("none"),
                &pid,
                "No such file or directory",
            ),
            (
                "proc",
                Path::new("/proc"),
                &pid,
                "controls the host's kernel",
            ),
            ("x", &late, &own, "not a husk-vmm with shares"),
        ] {
            let refused = share(&["attach", "--pid", of, name], source)?;
            ensure!(
                !refused.status.success() && refused.stderr.contains(why),
                "{refused:?}"
            );
        }
        ensure!(self::mounts()? == mounts, "the host's mount table changed");
        says(&machine, "SEEN")?;
        detach(&pid, "late")?.ok();
        detach(&pid, "single")?.ok();
        let again = detach(&pid, "late")?;
        ensure!(again.stderr.contains("`late` does not exist"), "{again:?}");
        ensure!(output::wait(&mut vmm, SOON)?.success());
        let serial = fs::read_to_string(machine.file("serial"))?;
        for line in ["late says content", "cannot write", "cannot make", "GONE"] {
            ensure!(serial.contains(line), "not {line}: {serial}");
        }
        ensure!(
            !serial.contains("in vain") && fs::read_to_string(&single)? == "one\nmore\n",
            "{serial}"
        );
        ensure!(self::mounts()? == mounts, "mounts are left");
        Ok(())
    })
}

/// Files of the crowd; more than the VMM below may have descriptors.
const CROWD: u32 = 800;

#[test]
fn a_guest_that_remembers_too_many_files_hears_of_it_and_recovers() -> Result<()> {
    watched(|| {
        let script = format!(
            "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t virtiofs husk /mnt
for i in $(seq {CROWD}); do true < /mnt/crowd/$i || break; done
echo 3 > /proc/sys/vm/drop_caches
echo again $(cat /mnt/crowd/{CROWD} && echo read)
poweroff -f
"
        );
        let machine = busybox(&script, &json!([{"name": "crowd", "source": "$DIR/crowd"}]))?;
        fs::create_dir(machine.file("crowd"))?;
        for number in 1..=CROWD {
            fs::write(machine.file(&format!("crowd/{number}")), "")?;
        }
        let mut limited = Command::new("prlimit");
        limited
            .args(["--nofile=512:512", "--", "husk-vmm", "--config"])
            .arg(machine.file("config.json"))
            .stdin(Stdio::null());
        let ended = output::wait(&mut limited.spawn()?, LIMIT)?;
        let serial = fs::read_to_string(machine.file("serial"))?;
        ensure!(ended.success(), "{ended}: {serial}");
        ensure!(
            serial.contains("Too many open files") || serial.contains("No file descriptors"),
            "{serial}"
        );
        ensure!(serial.contains("again read"), "{serial}");
        Ok(())
    })
}

/// A machine with a busybox whose first process is `init`, and these shares.
fn busybox(init: &str, shares: &serde_json::Value) -> Result<Machine> {
    let machine = Machine::new(&json!({
        "memory": {"size_mib": 256},
        "boot": {"kernel": KERNEL, "initrd": "$DIR/initrd", "cmdline": "console=ttyS0 quiet panic=-1"},
        "serial": {"mode": "file", "path": "$DIR/serial"},
        "devices": [{"type": "fs", "tag": "husk", "shares": shares}],
    }))?;
    let files: [(&str, u32, &[u8]); 2] = [
        ("/bin/busybox", 0o755, &fs::read("/bin/busybox")?),
        ("/init", 0o755, init.as_bytes()),
    ];
    initrd(&files, &machine.file("initrd"))?;
    Ok(machine)
}

/// Waits until the guest has said a word.
fn says(machine: &Machine, word: &str) -> Result<()> {
    let serial = machine.file("serial");
    let said = || fs::read_to_string(&serial).is_ok_and(|text| text.contains(word));
    output::until(&format!("the guest says {word}"), SOON, said).map(drop)
}

/// `husk-vmm share ARGUMENTS SOURCE`.
fn share(arguments: &[&str], source: &Path) -> Result<Output> {
    let mut share = Command::new("husk-vmm");
    output::run(share.arg("share").args(arguments).arg(source), b"")
}

/// `husk-vmm share detach`.
fn detach(pid: &str, name: &str) -> Result<Output> {
    let mut share = Command::new("husk-vmm");
    output::run(share.args(["share", "detach", "--pid", pid, name]), b"")
}

/// The host's mounts.
fn mounts() -> Result<String> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?)
}
