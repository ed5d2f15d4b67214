//! What processes use: memory by mapping, so that the guest's can be told from the VMM's, and CPU time.
#![expect(unsafe_code, reason = "std has no getrusage")]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// No VMM has a mapping of its own that is as large, and the guest's memory is not in smaller ones.
const GUEST_MAPPING_KIB: u64 = 64 << 10;
/// Files that are mapped into the guest instead of being copied.
const GUEST_FILES: [&str; 3] = ["vmlinux", "bench.img", "initrd.img"];

/// CPU time of all children that have been waited for.
pub(super) fn children_cpu() -> Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory for one rusage.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    ensure!(result == 0, "getrusage failed");
    // SAFETY: rusage is integers only, and all of it was zeroed before it was written.
    let usage = unsafe { usage.assume_init() };
    let time = |value: libc::timeval| {
        let seconds = u64::try_from(value.tv_sec).unwrap_or_default();
        let micros = u64::try_from(value.tv_usec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Proportional memory in KiB without the guest's, and threads, of a process and all its descendants.
pub(super) fn of_tree(pid: u32) -> Result<(u64, u64)> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).context("cannot read smaps")?;
    let mut memory = own_memory(&smaps);
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        threads += 1;
        let children = fs::read_to_string(thread?.path().join("children"))?;
        for child in children.split_whitespace() {
            let (more_memory, more_threads) = of_tree(child.parse()?)?;
            memory += more_memory;
            threads += more_threads;
        }
    }
    Ok((memory, threads))
}

/// The sum of Pss over the mappings that are not the guest's.
fn own_memory(smaps: &str) -> u64 {
    let (mut own, mut size, mut guest) = (0, 0, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or_default();
        let value = || {
            line.split_whitespace()
                .nth(1)
                .and_then(|value| value.parse::<u64>().ok())
                .unwrap_or(0)
        };
        match key {
            "Size:" => size = value(),
            "Pss:" if !guest && size < GUEST_MAPPING_KIB => own += value(),
            _ if !key.ends_with(':') => {
                guest = GUEST_FILES
                    .iter()
                    .any(|file| line.ends_with(&format!("/{file}")));
            }
            _ => {}
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::own_memory;

    #[test]
    fn guest_mappings_do_not_count() {
        let smaps = "\
55d0-55d1 r-xp 00000000 08:01 1 /usr/local/bin/husk-vmm
Size:                500 kB
Pss:                 300 kB
Pss_Dirty:            10 kB
7f00-7f10 rw-p 00000000 00:00 0
Size:             262144 kB
Pss:               40000 kB
7f20-7f30 rw-p 00000000 08:01 2 /usr/local/share/husk/vmlinux
Size:              20000 kB
Pss:                9000 kB
7f40-7f50 rw-p 00000000 00:00 0 [stack]
Size:                132 kB
Pss:                  12 kB
";
        assert_eq!(own_memory(smaps), 312);
    }
}
