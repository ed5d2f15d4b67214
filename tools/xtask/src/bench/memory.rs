//! What processes use: memory by mapping, so that the guest's can be told from the VMM's, and CPU time.
#![expect(unsafe_code, reason = "std has no getrusage")]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::peers::MEMORY_MIB;

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
    let mut memory = own_memory(&smaps, MEMORY_MIB << 20);
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

/// One line of a memory map, in bytes, and its share of memory in KiB.
struct Mapping {
    start: u64,
    end: u64,
    guest_file: bool,
    pss_kib: u64,
}

/// The sum of Pss over the mappings that are not the guest's.
fn own_memory(smaps: &str, guest_bytes: u64) -> u64 {
    let mappings = parse(smaps);
    let guest = guest_window(&mappings, guest_bytes);
    let own = |mapping: &&Mapping| {
        let inside =
            guest.is_some_and(|start| mapping.start >= start && mapping.end <= start + guest_bytes);
        !inside && !mapping.guest_file && mapping.end - mapping.start < guest_bytes / 4
    };
    mappings
        .iter()
        .filter(own)
        .map(|mapping| mapping.pss_kib)
        .sum()
}

/// Where the guest's memory starts: a gapless row of mappings that is exactly as long and has a large one in it. A kernel or an
/// initrd mapped into the guest divides its memory into several mappings.
fn guest_window(mappings: &[Mapping], length: u64) -> Option<u64> {
    mappings.iter().enumerate().find_map(|(index, first)| {
        let (mut end, mut large) = (first.start, false);
        for mapping in mappings.get(index..)? {
            if mapping.start != end || end - first.start >= length {
                break;
            }
            large |= mapping.end - mapping.start >= length / 4;
            end = mapping.end;
        }
        (large && end - first.start == length).then_some(first.start)
    })
}

fn parse(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or_default();
        if key == "Pss:" {
            if let (Some(mapping), Some(value)) = (mappings.last_mut(), words.next()) {
                mapping.pss_kib = value.parse().unwrap_or(0);
            }
        } else if let Some((start, end)) = key.split_once('-')
            && let (Ok(start), Ok(end)) =
                (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            let guest_file = GUEST_FILES
                .iter()
                .any(|file| line.ends_with(&format!("/{file}")));
            mappings.push(Mapping {
                start,
                end,
                guest_file,
                pss_kib: 0,
            });
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::own_memory;

    #[test]
    fn guest_mappings_do_not_count() {
        let smaps = "\
1000-2000 r-xp 00000000 08:01 1 /usr/local/bin/husk-vmm
Size:                  4 kB
Pss:                 300 kB
Pss_Dirty:            10 kB
10000-20000 rw-p 00000000 00:00 0
Pss:                  64 kB
20000-28000 rw-p 00000000 08:01 2 /usr/local/share/husk/vmlinux
Pss:                  30 kB
28000-110000 rw-p 00000000 00:00 0
Pss:                 900 kB
110000-111000 rw-p 00000000 00:00 0
Pss:                   4 kB
200000-210000 rw-p 00000000 00:00 0 [stack]
Pss:                  12 kB
";
        assert_eq!(own_memory(smaps, 0x10_0000), 316);
    }
}
