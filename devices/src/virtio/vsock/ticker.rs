//! The clock of time-outs: ticks while somebody waits, is silent otherwise.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::limits::TICK;

/// Counts ticks.
pub(super) struct Ticker {
    timer: OwnedFd,
    running: bool,
    now: u64,
}

impl Ticker {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            running: false,
            now: 0,
        })
    }

    /// Ticks so far.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Ticks only while `wanted`.
    pub(super) fn run(&mut self, wanted: bool) -> io::Result<()> {
        if self.running != wanted {
            let every = if wanted { TICK.as_secs() } else { 0 };
            let every = Timespec {
                tv_sec: i64::try_from(every).unwrap_or(1),
                tv_nsec: 0,
            };
            let timing = Itimerspec {
                it_interval: every,
                it_value: every,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timing)?;
            self.running = wanted;
        }
        Ok(())
    }

    /// The timer is readable. Counts one tick, however many have passed: in the others the device did not run.
    pub(super) fn tick(&mut self) {
        let mut expirations = [0; 8];
        if rustix::io::read(&self.timer, &mut expirations).is_ok() {
            self.now = self.now.saturating_add(1);
        }
    }
}

impl AsRawFd for Ticker {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}
