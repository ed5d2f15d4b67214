//! What the API tells of the device.

/// A number that only grows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(u64);

impl Count {
    pub(super) fn add(&mut self, amount: u64) {
        self.0 = self.0.saturating_add(amount);
    }
}

/// Since the machine started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets_from_guest: Count,
    pub(super) packets_to_guest: Count,
    pub(super) bytes_from_guest: Count,
    pub(super) bytes_to_guest: Count,
    /// Connections.
    pub(super) opened: Count,
    /// Requests and packets answered with a reset because they belong to no connection, and clients past the limit.
    pub(super) refused: Count,
    /// Packets with a context id that is not the guest's or not the host's.
    pub(super) forged: Count,
}

impl Counters {
    /// By name.
    pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("packets_from_guest", self.packets_from_guest.0),
            ("packets_to_guest", self.packets_to_guest.0),
            ("bytes_from_guest", self.bytes_from_guest.0),
            ("bytes_to_guest", self.bytes_to_guest.0),
            ("connections_opened", self.opened.0),
            ("refused", self.refused.0),
            ("forged_packets", self.forged.0),
        ]
    }
}
