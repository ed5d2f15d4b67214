//! How often processors left the guest, by reason. Each processor counts in its own, readers add up.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a processor left the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reason {
    PortRead,
    PortWrite,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
    EndOfInterrupt,
    Kicked,
    Other,
}

/// Names in the API, in the order of [`Reason`].
const NAMES: [&str; 9] = [
    "port_read",
    "port_write",
    "mmio_read",
    "mmio_write",
    "msr_read_refused",
    "msr_write_refused",
    "end_of_interrupt",
    "kicked",
    "other",
];

/// The counters of one processor.
#[derive(Default)]
pub(crate) struct ExitCounters {
    counts: [AtomicU64; NAMES.len()],
}

impl ExitCounters {
    /// Counts one exit.
    pub(crate) fn count(&self, reason: Reason) {
        if let Some(counter) = self.counts.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every counter by name.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        NAMES.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_name() {
        let counters = ExitCounters::default();
        counters.count(Reason::Other);
        counters.count(Reason::MsrWrite);
        let counted: Vec<_> = counters.read().filter(|(_, count)| *count == 1).collect();
        assert_eq!(counted, [("msr_write_refused", 1), ("other", 1)]);
    }
}
