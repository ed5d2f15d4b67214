//! `Signal`: to one process, or to every process of a container.

#![expect(
    unsafe_code,
    reason = "rustix makes real-time signals through an unsafe function"
)]

use protocol::rpc::{ErrorCode, Reply};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::{Call, Container, Containers, Failure, Phase};
use crate::locked;

/// Signal numbers of Linux on x86 and Arm: 1 to `_NSIG`.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

impl Containers {
    pub(crate) fn signal(&self, id: &str, exec: Option<&str>, number: i32, all: bool) -> Call {
        let container = self.get(id)?;
        let signal = signal(number)?;
        if all {
            return container.signal_all(signal);
        }
        match container.process(exec)?.signal(signal) {
            Ok(()) => Ok(Reply::Done {}),
            Err(Errno::SRCH) => {
                let message = match exec {
                    None => format!("container {id} is stopped"),
                    Some(exec) => format!("process {exec} of container {id} has ended"),
                };
                Err(Failure::new(ErrorCode::WrongState, message))
            }
            Err(errno) => Err(Failure::internal("send the signal", &errno)),
        }
    }
}

impl Container {
    fn signal_all(&self, signal: Signal) -> Call {
        let outcome = if signal == Signal::KILL {
            self.cgroup.kill()
        } else {
            self.signal_each(signal)
        };
        match outcome {
            Ok(()) => Ok(Reply::Done {}),
            Err(error) => Err(Failure::internal("signal the container", &error)),
        }
    }

    /// Frozen, so that no process forks or ends, and lends its pid to another, meanwhile.
    fn signal_each(&self, signal: Signal) -> std::io::Result<()> {
        let phase = locked(&self.phase);
        self.cgroup.freeze()?;
        let sent = self.cgroup.processes().map(|pids| {
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                // A zombie in the list takes no signal, and needs none.
                rustix::process::kill_process(pid, signal).ok();
            }
        });
        if !matches!(*phase, Phase::Paused { .. }) {
            self.cgroup.thaw()?;
        }
        sent
    }
}

fn signal(number: i32) -> Result<Signal, Failure> {
    if !SIGNALS.contains(&number) {
        let message = format!("signal {number} is not in 1 to 64");
        return Err(Failure::new(ErrorCode::Invalid, message));
    }
    // SAFETY: the number is in the kernel's range. The numbers that the C library keeps for itself are dangerous to
    // a process that uses that library; this signal only ever goes to processes of containers.
    Ok(unsafe { Signal::from_raw_unchecked(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_signals_are_accepted() {
        for number in [1, 15, 34, 37, 64] {
            assert_eq!(signal(number).unwrap().as_raw(), number);
        }
        for number in [i32::MIN, -1, 0, 65, i32::MAX] {
            assert_eq!(signal(number).unwrap_err().code, ErrorCode::Invalid);
        }
    }
}
