//! The control queue (virtio 1.2, 5.1.6.5): how many pairs are in use, and what is left to the guest.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_CTRL_MQ,
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    VIRTIO_NET_F_MQ, VIRTIO_NET_OK,
};

use super::features::{bit, left_to_guest};
use crate::virtio::queue::{Chain, QueueError};

/// Class, command, and at most eight bytes.
const MAX_COMMAND: usize = 2 + 8;

/// What a driver asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Use so many pairs.
    Pairs(u16),
    /// Leave exactly these offloads to the guest.
    Offloads(u64),
}

impl Command {
    /// The command in `chain`. `None` if it is none that a driver which agreed on `features` may give.
    pub(super) fn parse(chain: &Chain, features: u64) -> Result<Option<Self>, QueueError> {
        let mut bytes = [0; MAX_COMMAND];
        let len = chain.read_at(0, &mut bytes)?;
        let whole = chain.readable_len() == len as u64;
        Ok(bytes
            .get(..len)
            .filter(|_| whole)
            .and_then(|bytes| Self::decode(bytes, features)))
    }

    fn decode(bytes: &[u8], features: u64) -> Option<Self> {
        let (code, data) = bytes.split_first_chunk()?;
        let [class, command] = code.map(u32::from);
        match (class, command) {
            (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
                let pairs = u16::from_le_bytes(data.try_into().ok()?);
                let agreed = features & bit(VIRTIO_NET_F_MQ) != 0;
                agreed.then_some(Self::Pairs(pairs))
            }
            (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
                let offloads = u64::from_le_bytes(data.try_into().ok()?);
                let agreed = features & bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) != 0
                    && offloads & !left_to_guest(features) == 0
                    && left_to_guest(offloads) == offloads;
                agreed.then_some(Self::Offloads(offloads))
            }
            _ => None,
        }
    }
}

/// Answers `chain`. Returns how many bytes are written.
pub(super) fn answer(chain: &Chain, accepted: bool) -> Result<u32, QueueError> {
    let [ack, ..] = match accepted {
        true => VIRTIO_NET_OK.to_le_bytes(),
        false => VIRTIO_NET_ERR.to_le_bytes(),
    };
    let written = chain.write_at(0, &[ack])?;
    Ok(u32::try_from(written).unwrap_or(0))
}
