//! `Processes`: what runs in a container, from its cgroup and `/proc` (proc_pid_stat(5)).

use std::fs;

use protocol::rpc::{Process, Reply};

use super::{Call, Containers, Failure};

/// Longest command line reported, in bytes.
const MAX_COMMAND: usize = 4096;

/// Most processes reported: the reply has to fit a frame.
const MAX_REPORTED: usize = 4096;

/// Most bytes of all command lines together.
const MAX_COMMANDS: usize = 1 << 20;

impl Containers {
    pub(crate) fn processes(&self, id: &str) -> Call {
        let container = self.get(id)?;
        let pids = container.cgroup.processes();
        let pids = pids.map_err(|error| Failure::internal("read the cgroup", &error))?;
        let mut room = MAX_COMMANDS;
        let mut processes: Vec<_> = pids
            .into_iter()
            .take(MAX_REPORTED)
            .filter_map(read)
            .collect();
        for process in &mut processes {
            truncate(&mut process.command, room);
            room -= process.command.len();
        }
        Ok(Reply::Processes { processes })
    }
}

/// `None` if the process has ended.
fn read(pid: i32) -> Option<Process> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = file("stat")?;
    let status = file("status")?;
    let command = file("cmdline")?;
    parse(
        pid,
        &String::from_utf8_lossy(&stat),
        &String::from_utf8_lossy(&status),
        &String::from_utf8_lossy(&command),
    )
}

fn parse(pid: i32, stat: &str, status: &str, command: &str) -> Option<Process> {
    // The name is in brackets and may hold anything, brackets too: fields are counted from its end.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // Numbered as in the manual, where the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number| field(number)?.parse::<u64>().ok();
    let mut command = command.trim_end_matches('\0').replace('\0', " ");
    if command.is_empty() {
        command = format!("[{name}]");
    }
    truncate(&mut command, MAX_COMMAND);
    Some(Process {
        pid,
        ppid: field(4)?.parse().ok()?,
        uid: effective_uid(status)?,
        cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
        start_ticks: ticks(22)?,
        tty: field(7)?.parse().ok()?,
        command,
    })
}

/// `Uid: real effective saved file-system`
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn truncate(text: &mut String, length: usize) {
    if text.len() > length {
        let boundary = (0..=length).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(boundary.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) (b)) S 7 42 42 34816 42 4194304 100 0 0 0 11 5 0 0 20 0 1 0 977 0";
    const STATUS: &str = "Name:\tx\nUid:\t0\t33\t0\t0\nGid:\t0\t0\t0\t0\n";

    #[test]
    fn a_name_full_of_brackets_is_no_obstacle() {
        let process = parse(42, STAT, STATUS, "").unwrap();
        assert_eq!(process.command, "[a) (b)]");
        assert_eq!((process.ppid, process.uid, process.tty), (7, 33, 34816));
        assert_eq!((process.cpu_ticks, process.start_ticks), (16, 977));
    }

    #[test]
    fn arguments_are_joined_and_cut() {
        let process = parse(42, STAT, STATUS, "sleep\x00100\x00").unwrap();
        assert_eq!(process.command, "sleep 100");
        let long = "ä".repeat(MAX_COMMAND);
        let process = parse(42, STAT, STATUS, &long).unwrap();
        assert!(process.command.len() <= MAX_COMMAND);
    }

    #[test]
    fn a_truncated_stat_is_no_process() {
        assert!(parse(42, "42 (x) S 7", STATUS, "").is_none());
        assert!(parse(42, "", STATUS, "").is_none());
        assert!(parse(42, STAT, "", "").is_none());
    }
}
