//! What one request to a disk may ask for.

/// Size of the one queue.
pub(super) const QUEUE_SIZE: u16 = 256;
/// Data buffers of one request: what a chain of the queue's size has left beside header and status.
pub(super) const MAX_DATA_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Ranges of one discard or write-zeroes request.
pub(super) const MAX_SEGMENTS: u32 = 16;
/// Sectors of one range of a discard: 2 GiB.
pub(super) const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Sectors of one range of a write-zeroes request: 32 MiB, since some hosts must really write them.
pub(super) const MAX_ZEROES_SECTORS: u32 = 1 << 16;
