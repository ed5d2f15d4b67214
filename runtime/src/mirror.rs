//! Processes of the host that stand for those of a guest, for engines that look up what `husk ps -f json` names in the host's own
//! process table (`docker top` runs the host's `ps`).
//!
//! A mirror is this program, executed with a process's command line and user id, that does nothing and ends soon: a few seconds
//! later, or with the container's monitor. It has no capabilities, no descriptors, an empty environment but for its own mark, and is
//! in the container's cgroup. What the guest says only ends up in its argument and its name: printable, and of bounded length.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use protocol::rpc::Process;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_name, set_no_new_privs};

use crate::cgroup::HostCgroup;
use crate::process::wait_readable;

/// Marks a mirror, and names the monitor that it ends with.
const MARK: &str = "HUSK_MIRROR";

/// How long a mirror is there: an engine looks at once, on however slow a machine.
const LIFETIME: Duration = Duration::from_secs(10);

/// Most mirrors made at a time.
const MAX_MIRRORS: usize = 256;

/// Longest command line that a mirror shows, in characters.
const MAX_COMMAND: usize = 512;

/// The group of a mirror: none that means anything.
const NO_GROUP: u32 = 65534;

/// Makes a mirror of each process, up to a limit, that ends with `monitor` at the latest. Their process ids.
pub(crate) fn show(
    processes: &[Process],
    monitor: i32,
    cgroup: Option<&HostCgroup>,
) -> io::Result<Vec<i32>> {
    let mut mirrors = Vec::new();
    for process in processes.iter().take(MAX_MIRRORS) {
        let mut mirror = Command::new("/proc/self/exe");
        mirror
            .arg0(printable(&process.command))
            .env_clear()
            .env(MARK, monitor.to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if geteuid().is_root() {
            mirror.uid(process.uid).gid(NO_GROUP);
        }
        let mut child = mirror.spawn()?;
        let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
        if let Some(Err(error)) = cgroup.map(|cgroup| cgroup.add(pid)) {
            child.kill()?;
            child.wait()?;
            // The container has ended: so have its processes.
            return if error.kind() == io::ErrorKind::NotFound {
                Ok(Vec::new())
            } else {
                Err(error)
            };
        }
        mirrors.push(pid);
    }
    Ok(mirrors)
}

/// What this process does if it is a mirror.
pub(crate) fn run() -> Option<ExitCode> {
    let monitor = std::env::var(MARK).ok()?;
    Some(match pretend(&monitor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn pretend(monitor: &str) -> io::Result<()> {
    set_no_new_privs(true)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none)?;
    let command = std::env::args().next().unwrap_or_default();
    set_name(&CString::new(name(&command))?)?;
    let pid = monitor.parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let monitor = pidfd_open(pid, PidfdFlags::empty())?;
    wait_readable(monitor.as_fd(), LIFETIME);
    Ok(())
}

/// A command line that is safe to show.
fn printable(command: &str) -> String {
    let safe = |c: char| if c.is_control() { '?' } else { c };
    command.chars().take(MAX_COMMAND).map(safe).collect()
}

/// The last part of a command's path.
fn name(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_made_harmless() {
        assert_eq!(printable("a\nb\x1b[31m\0c"), "a?b?[31m?c");
        assert_eq!(printable(&"ä".repeat(5000)).chars().count(), MAX_COMMAND);
    }

    #[test]
    fn a_mirror_is_named_as_the_program() {
        assert_eq!(name("/usr/sbin/nginx -g x/y"), "nginx");
        assert_eq!(name("sleep 100"), "sleep");
        assert_eq!(name(""), "");
    }
}
