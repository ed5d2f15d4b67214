//! `Stats`: what the container's cgroup counts.

use std::collections::BTreeMap;
use std::io;

use protocol::rpc::{IoStats, Reply, Stats};

use super::{Call, Containers, Failure};
use crate::boot::cgroups::Cgroup;

impl Containers {
    pub(crate) fn stats(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let stats = read(&container.cgroup);
        let stats = stats.map_err(|error| Failure::internal("read the cgroup", &error))?;
        Ok(Reply::Stats {
            stats: Box::new(stats),
        })
    }
}

fn read(cgroup: &Cgroup) -> io::Result<Stats> {
    // A controller that is not in the kernel has no files: its figures stay empty.
    let file = |name| match cgroup.read(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        outcome => outcome,
    };
    Ok(Stats {
        cpu: flat_keyed(&file("cpu.stat")?),
        memory: flat_keyed(&file("memory.stat")?),
        memory_current: number(&file("memory.current")?).unwrap_or(0),
        memory_limit: number(&file("memory.max")?),
        memory_events: flat_keyed(&file("memory.events")?),
        pids_current: number(&file("pids.current")?).unwrap_or(0),
        pids_limit: number(&file("pids.max")?),
        io: file("io.stat")?.lines().filter_map(io_line).collect(),
    })
}

/// `None` for `max`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of `KEY VALUE`.
pub(super) fn flat_keyed(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(key, value)| Some((key.to_owned(), number(value)?)))
        .collect()
}

/// `MAJOR:MINOR KEY=VALUE...`
fn io_line(line: &str) -> Option<IoStats> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let counters = words.filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), number(value)?))
    });
    Some(IoStats {
        major: number(major)?,
        minor: number(minor)?,
        counters: counters.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_formats_are_understood() {
        let cpu = flat_keyed("usage_usec 12\nuser_usec 8\nbroken\n");
        assert_eq!(cpu.len(), 2);
        assert_eq!(cpu["usage_usec"], 12);
        assert_eq!(number("max\n"), None);
        assert_eq!(number("4096\n"), Some(4096));
        let line = io_line("254:16 rbytes=4096 wbytes=0 rios=1").unwrap();
        assert_eq!((line.major, line.minor), (254, 16));
        assert_eq!(line.counters["rbytes"], 4096);
        assert!(io_line("").is_none());
        assert!(io_line("nonsense rbytes=1").is_none());
    }
}
