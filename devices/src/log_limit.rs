//! Keeps a guest from filling the log: each place that a guest can make speak has a limit of its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines that one place may write in one period.
pub const MAX_LINES: u64 = 10;
/// Length of a period in seconds.
pub const PERIOD: u64 = 5;

/// The limit of one place. Meant to be a `static` beside the line it limits.
pub struct LogLimit {
    /// Number of the period, and lines written in it in the lowest byte.
    state: AtomicU64,
}

impl LogLimit {
    /// A limit that has not been used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written now; counts it if so.
    pub fn allows(&self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        self.allows_at(START.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn allows_at(&self, second: u64) -> bool {
        let period = (second / PERIOD) << 8;
        let next = |state: u64| match state & 0xff {
            _ if state & !0xff != period => Some(period | 1),
            lines if lines < MAX_LINES => Some(state.saturating_add(1)),
            _ => None,
        };
        self.state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_allows_ten_lines() {
        let limit = LogLimit::new();
        for second in [0, 4, 5, 5000] {
            let allowed = (0..1000).filter(|_| limit.allows_at(second)).count();
            let expected = if second == 4 { 0 } else { MAX_LINES };
            assert_eq!(allowed as u64, expected, "second {second}");
        }
    }
}
