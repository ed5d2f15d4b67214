//! Buffers that a driver has given, for packets to come.

use std::collections::VecDeque;

use super::vectored::Pieces;
use crate::virtio::queue::{Chain, QueueError};

/// Chains of the driver that wait for a packet.
#[derive(Default)]
pub(super) struct Held {
    /// Each with its bytes and the number of its pieces.
    pub(super) chains: VecDeque<(Chain, usize, usize)>,
    /// Their memory.
    pub(super) pieces: Pieces,
    /// Bytes of all of them.
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn clear(&mut self) {
        self.chains.clear();
        self.pieces.clear();
        self.bytes = 0;
    }

    pub(super) fn push(&mut self, chain: Chain) -> Result<(), QueueError> {
        let before = self.pieces.len();
        self.pieces.push(&chain, chain.writable())?;
        let pieces = self.pieces.len().saturating_sub(before);
        let bytes = usize::try_from(chain.writable_len()).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.chains.push_back((chain, bytes, pieces));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<(Chain, usize)> {
        let (chain, bytes, pieces) = self.chains.pop_front()?;
        self.pieces.drop_front(pieces);
        self.bytes = self.bytes.saturating_sub(bytes);
        Some((chain, bytes))
    }

    /// Writes `data` at byte `offset` of all chains together.
    pub(super) fn write_at(&self, offset: usize, data: &[u8]) -> Result<(), QueueError> {
        let (mut skip, mut data) = (offset, data);
        for (chain, bytes, _) in &self.chains {
            if skip < *bytes && !data.is_empty() {
                let written = chain.write_at(skip as u64, data)?;
                data = data.get(written..).unwrap_or_default();
            }
            skip = skip.saturating_sub(*bytes);
        }
        Ok(())
    }

    /// How many chains a packet of `len` bytes takes.
    pub(super) fn count_for(&self, len: usize) -> u16 {
        let mut left = len;
        let mut count = 0_u16;
        for (_, bytes, _) in &self.chains {
            count = count.saturating_add(1);
            left = left.saturating_sub(*bytes);
            if left == 0 {
                break;
            }
        }
        count
    }
}
