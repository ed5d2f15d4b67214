//! What a test left behind on the host.
//!
//! [`watched`] notes what there is before a test and compares when the test has ended. What it looks at: processes, threads and
//! open files of long-lived processes, mounts, network interfaces, cgroups, bound unix sockets, files where husk keeps state, and
//! the kernel's log. The check is itself tested by planting one leak of each kind (`tests/leak_check.rs`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long what a test ended may take to go away (SECURITY.md S17: all resources within 2 s; the testbed's clock is slower).
const GRACE: Duration = Duration::from_secs(5);

/// Where husk keeps state, and where tests keep theirs.
const STATE_DIRS: &[&str] = &["/run/husk", "/dev/shm"];

/// Kernel messages that the tests' own set-up causes, not a guest.
const EXPECTED_MESSAGES: &[&str] = &[
    "EXT4-fs",
    "fuse: init",
    "loop",
    "IPv6: ADDRCONF",
    "nvme",
    "random: crng",
    "kmsg",
    "systemd",
    // The module of tc's redirections greets as it is loaded.
    "Mirror/redirect action on",
    // Of packets that come between the end of a machine and the removal of its redirections.
    "tc mirred to Houston",
    // Bridges and veths of engines as they come and go.
    "entered blocking state",
    "entered disabled state",
    "entered forwarding state",
    "entered promiscuous mode",
    "left promiscuous mode",
    "renamed from",
    "bridge: filtering via arp",
    "Bridge firewalling registered",
    "Initializing XFRM netlink socket",
    "operation=\"profile_load\"",
    // Of the programs that tests run with runc under a seccomp filter; husk never runs one of this name on the host.
    "comm=\"busybox\"",
    // Of interfaces that engines make without a queue.
    "Caught tx_queue_len zero misconfig",
    // The testbed is an emulator, whose clock jumps under load.
    "hrtimer: interrupt took",
    // Said once, of the first machine with two processors, where the host's clock is an emulator's.
    "kvm: SMP vm created on host with unstable TSC",
];

/// One thing that was not there before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// What kind of thing: `process`, `mount`, ...
    pub kind: &'static str,
    /// Which one.
    pub what: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.what)
    }
}

/// Runs the test and fails if it left something behind. A test that fails itself tells of both.
pub fn watched(test: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut before = Snapshot::take()?;
    let outcome = panic::catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|payload| {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
        bail!("the test panicked: {}", said.unwrap_or("without a message"))
    });
    let leaks = before.leaks().context("cannot look for leaks")?;
    if leaks.is_empty() {
        return outcome;
    }
    let list: Vec<String> = leaks.iter().map(Leak::to_string).collect();
    let left = format!("left behind:\n  {}", list.join("\n  "));
    match outcome {
        Ok(()) => bail!("the test passed and {left}"),
        Err(error) => bail!("the test failed: {error:?}\nand {left}"),
    }
}

/// The state of the host at some moment.
pub struct Snapshot {
    before: BTreeSet<Leak>,
    log: KernelLog,
}

impl Snapshot {
    /// Notes what there is now.
    pub fn take() -> Result<Self> {
        Ok(Self {
            before: everything()?,
            log: KernelLog::from_now_on()?,
        })
    }

    /// What is there now that was not then, after waiting for things that are just going away.
    pub fn leaks(&mut self) -> Result<Vec<Leak>> {
        let end = Instant::now() + GRACE;
        let mut left: Vec<Leak>;
        loop {
            left = everything()?.difference(&self.before).cloned().collect();
            if left.is_empty() || Instant::now() > end {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        left.extend(self.log.unexpected()?);
        Ok(left)
    }
}

/// Everything on the host that a sandbox could leave behind.
fn everything() -> Result<BTreeSet<Leak>> {
    let mut all = BTreeSet::new();
    let mut add = |kind, what: String| all.insert(Leak { kind, what });
    for process in processes() {
        add("process", process.name());
        for thread in process.threads() {
            add("thread", format!("{} {thread}", process.name()));
        }
        for file in process.files() {
            add("open file", format!("{} {file}", process.name()));
        }
    }
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        add(
            "mount",
            line.split(' ').nth(4).unwrap_or_default().to_owned(),
        );
    }
    for line in fs::read_to_string("/proc/net/unix")?.lines().skip(1) {
        if let Some(path) = line.split_whitespace().nth(7) {
            add("unix socket", path.to_owned());
        }
    }
    for name in entries(Path::new("/sys/class/net")) {
        add("network interface", name);
    }
    for path in walk(Path::new("/sys/fs/cgroup"), &|path| path.is_dir()) {
        add("cgroup", path);
    }
    for dir in STATE_DIRS {
        for path in walk(Path::new(dir), &|_| true) {
            add("file", path);
        }
    }
    for name in entries(Path::new("/tmp")).filter(|name| name.starts_with("husk")) {
        add("file", format!("/tmp/{name}"));
    }
    Ok(all)
}

struct Process {
    pid: String,
    start: String,
    command: String,
}

impl Process {
    fn name(&self) -> String {
        format!("{} ({}, started {})", self.pid, self.command, self.start)
    }

    /// Is this the test itself? Its own threads and files come and go.
    fn is_self(&self) -> bool {
        self.pid == std::process::id().to_string()
    }

    fn threads(&self) -> Vec<String> {
        if self.is_self() {
            Vec::new()
        } else {
            self.list("task")
        }
    }

    fn files(&self) -> Vec<String> {
        let place = Path::new("/proc").join(&self.pid).join("fd");
        let numbers = if self.is_self() {
            Vec::new()
        } else {
            self.list("fd")
        };
        let target = |fd: &String| {
            fs::read_link(place.join(fd))
                .map(|to| format!("{fd} -> {}", to.display()))
                .ok()
        };
        numbers.iter().filter_map(target).collect()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        entries(&Path::new("/proc").join(&self.pid).join(dir)).collect()
    }
}

/// User-space processes; kernel threads come and go as they like.
fn processes() -> Vec<Process> {
    let numeric = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    entries(Path::new("/proc"))
        .filter(numeric)
        .filter_map(process)
        .collect()
}

fn process(pid: String) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let kernel_thread = fields.get(1) == Some(&"2") || pid == "2";
    let command = before.split_once('(')?.1.to_owned();
    let start = fields.get(19)?.to_string();
    (!kernel_thread).then_some(Process {
        pid,
        start,
        command,
    })
}

fn entries(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let list = fs::read_dir(dir).into_iter().flatten().flatten();
    list.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn walk(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path.clone());
            }
            if wanted(&path) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// The kernel's messages from some moment on.
struct KernelLog {
    kmsg: fs::File,
}

impl KernelLog {
    fn from_now_on() -> Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let kmsg = fs::File::options()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg")?;
        rustix::fs::seek(&kmsg, rustix::fs::SeekFrom::End(0))?;
        Ok(Self { kmsg })
    }

    fn unexpected(&mut self) -> Result<Vec<Leak>> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.kmsg.read(&mut record) {
                Ok(count) => {
                    let text = String::from_utf8_lossy(&record[..count])
                        .trim_end()
                        .to_owned();
                    if !EXPECTED_MESSAGES
                        .iter()
                        .any(|expected| text.contains(expected))
                    {
                        found.push(Leak {
                            kind: "kernel message",
                            what: text,
                        });
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(found),
                // Messages were overwritten before they were read: go on with the oldest.
                Err(error) if error.raw_os_error() == Some(32) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
