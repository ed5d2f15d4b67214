//! One VMM, measured: instructions, CPU time, memory, KVM exits and system calls, each in a run of its own where measuring one
//! would change the other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::memory;
use super::peers::Peer;

/// What the guest prints.
const LINE: &str = "husk-bench: first line";
/// How long an idle guest is left alone before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// KVM's counters.
const DEBUGFS: &str = "/sys/kernel/debug";

/// The figures of one VMM. Under instruction counting a nanosecond is an instruction.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) name: String,
    /// From before exec to the guest's first line.
    pub(super) first_line: u64,
    /// From before exec to the end of the process.
    pub(super) exit: u64,
    /// CPU time of the process, the guest's included.
    pub(super) cpu: u64,
    /// Proportional memory that is not the guest's, idle, in KiB.
    pub(super) memory_kib: u64,
    /// Threads, idle.
    pub(super) threads: u64,
    /// Exits of the vCPU to KVM, from the start to idle.
    pub(super) exits: u64,
    /// System calls from exec to exit.
    pub(super) syscalls: u64,
}

/// Measures one VMM: once to warm the caches, then the median of `runs`.
pub(super) fn measure(peer: Peer, initrd: &Path, runs: u32) -> Result<Figures> {
    let measured = || -> Result<Vec<[u64; 3]>> {
        time(peer, initrd)?;
        (0..runs).map(|_| time(peer, initrd)).collect()
    };
    let times = measured().with_context(|| format!("cannot time {}", peer.name()))?;
    let median = |which: usize| {
        let mut values: Vec<u64> = times.iter().map(|run| run[which]).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let mut figures = Figures {
        name: peer.name().to_owned(),
        first_line: median(0),
        exit: median(1),
        cpu: median(2),
        ..Figures::default()
    };
    idle(peer, initrd, &mut figures)
        .with_context(|| format!("cannot measure {} idle", peer.name()))?;
    figures.syscalls =
        syscalls(peer, initrd).with_context(|| format!("cannot trace {}", peer.name()))?;
    Ok(figures)
}

/// First line, exit and CPU time of one run, in nanoseconds.
fn time(peer: Peer, initrd: &Path) -> Result<[u64; 3]> {
    let mut command = peer.command(initrd, false)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let cpu = memory::children_cpu()?;
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", peer.name()))?;
    let first_line = wait_for_line(&mut child, start)?;
    let status = child.wait()?;
    let exit = start.elapsed();
    ensure!(status.success(), "{} ended with {status}", peer.name());
    Ok([
        nanos(first_line),
        nanos(exit),
        nanos(memory::children_cpu()?.saturating_sub(cpu)),
    ])
}

/// Reads the guest's output to its end or to the line, and says when that came.
fn wait_for_line(child: &mut Child, start: Instant) -> Result<Duration> {
    let stdout = child.stdout.take().context("no output")?;
    let mut reader = BufReader::new(stdout);
    let mut said = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            bail!("the guest did not print its line, but: {said}");
        }
        let now = start.elapsed();
        let line = String::from_utf8_lossy(&line);
        if line.contains(LINE) {
            // The rest has to be read, lest the VMM waits or gets a SIGPIPE.
            thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            return Ok(now);
        }
        said.push_str(&line);
    }
}

fn idle(peer: Peer, initrd: &Path, figures: &mut Figures) -> Result<()> {
    let mut command = peer.command(initrd, true)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let result = wait_for_line(&mut child, Instant::now()).and_then(|_| {
        thread::sleep(SETTLE);
        figures.exits = kvm_exits()?;
        (figures.memory_kib, figures.threads) = memory::of_tree(child.id())?;
        Ok(())
    });
    child.kill()?;
    child.wait()?;
    result
}

/// All exits of all machines there are: this one's, as there is no other.
fn kvm_exits() -> Result<u64> {
    let path = Path::new(DEBUGFS).join("kvm/exits");
    if !path.exists() {
        let status = Command::new("mount")
            .args(["-t", "debugfs", "debugfs", DEBUGFS])
            .status()?;
        ensure!(status.success(), "cannot mount debugfs");
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().parse()?)
}

/// The system calls of all threads, counted by strace.
fn syscalls(peer: Peer, initrd: &Path) -> Result<u64> {
    let log = std::env::temp_dir().join("husk-bench.strace");
    let traced = peer.command(initrd, false)?;
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-o"])
        .arg(&log)
        .arg(traced.get_program())
        .args(traced.get_args());
    let status = strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run strace")?;
    ensure!(status.success(), "it ended with {status} under strace");
    let text = fs::read_to_string(&log)?;
    total(&text).with_context(|| format!("strace wrote no total:\n{text}"))
}

/// The number of calls in the last line of strace's table: `100.00 seconds usecs calls [errors] total`.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn total_of_strace_is_found_with_and_without_errors() {
        let table =
            "% time seconds usecs/call calls errors syscall\n 50.00 0.1 1 20 3 ioctl\n------\n";
        for line in [
            "100.00    0.011000          15       701         9 total",
            "100.00 0.011000 15 701 total",
        ] {
            assert_eq!(super::total(&format!("{table}{line}\n")), Some(701));
        }
        assert_eq!(super::total(table), None);
    }
}
