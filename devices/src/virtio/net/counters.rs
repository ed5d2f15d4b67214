//! What the device counts for the API.

/// Counters of one device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    /// Packets given to the guest.
    pub(super) received: u64,
    /// Bytes of their frames.
    pub(super) received_bytes: u64,
    /// Packets that fitted into no buffer of the guest's.
    pub(super) receive_dropped: u64,
    /// Buffers of the guest's that no packet can go into.
    pub(super) receive_malformed: u64,
    /// How often packets had to wait for the guest's buffers.
    pub(super) receive_starved: u64,
    /// Packets taken from the guest.
    pub(super) sent: u64,
    /// Bytes of their frames.
    pub(super) sent_bytes: u64,
    /// Packets of the guest with a bad header or length.
    pub(super) send_malformed: u64,
    /// Packets of the guest that the host did not take.
    pub(super) send_refused: u64,
    /// Requests to the control queue.
    pub(super) commands: u64,
    /// Those that were refused.
    pub(super) commands_refused: u64,
}

/// Adds `more` to a counter.
pub(super) fn add(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

impl Counters {
    /// By name.
    pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("received", self.received),
            ("received_bytes", self.received_bytes),
            ("receive_dropped", self.receive_dropped),
            ("receive_malformed", self.receive_malformed),
            ("receive_starved", self.receive_starved),
            ("sent", self.sent),
            ("sent_bytes", self.sent_bytes),
            ("send_malformed", self.send_malformed),
            ("send_refused", self.send_refused),
            ("commands", self.commands),
            ("commands_refused", self.commands_refused),
        ]
    }
}
