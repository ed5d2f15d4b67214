//! A chain, parsed: what the driver wants of the disk (virtio 1.2, 5.2.6). No I/O here.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::limits::{MAX_DISCARD_SECTORS, MAX_SEGMENTS, MAX_ZEROES_SECTORS};
use crate::virtio::queue::{Buffer, Chain, QueueError};

/// Bytes of a sector, whatever the block size.
pub(super) const SECTOR: u32 = 512;
/// Bytes of the request header: type, reserved, sector.
const HEADER: u64 = 16;
/// Bytes of one range of a discard or write-zeroes request.
const SEGMENT: usize = 16;
/// Bytes of the serial number.
pub(super) const ID_BYTES: usize = 20;

/// What the disk is, as far as requests are checked against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Bytes of the disk.
    pub(super) bytes: u64,
    /// Offsets and lengths are multiples of it.
    pub(super) block: u64,
}

/// Why a request is not executed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// No room for header or status: the driver can be told nothing.
    #[error("request has no header or no status byte")]
    Shape,
    /// The type, or a flag, is not known.
    #[error("request is of a kind that the device does not have")]
    Unsupported,
    /// Not whole blocks, or not inside the disk, or over a limit.
    #[error("request is out of range")]
    Range,
    /// Its buffers cannot be read.
    #[error("request cannot be read")]
    Queue(#[source] QueueError),
}

/// A part of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Whether its space may be given back.
    pub(super) unmap: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Fill the buffers from the offset on.
    Read(u64, Vec<Buffer>),
    /// Write the buffers from the offset on.
    Write(u64, Vec<Buffer>),
    /// Make writes durable.
    Flush,
    /// Say the serial number.
    GetId,
    /// Forget these.
    Discard(Vec<Extent>),
    /// Zero these.
    WriteZeroes(Vec<Extent>),
}

impl Request {
    /// What `chain` asks for, checked against the disk.
    pub(super) fn parse(chain: &Chain, geometry: Geometry) -> Result<Self, RequestError> {
        let mut kind = [0; 4];
        let mut sector = [0; 8];
        let readable = chain.readable_len().checked_sub(HEADER);
        let writable = chain.writable_len().checked_sub(1);
        let (Some(readable), Some(writable)) = (readable, writable) else {
            return Err(RequestError::Shape);
        };
        chain.read_at(0, &mut kind).map_err(RequestError::Queue)?;
        chain.read_at(8, &mut sector).map_err(RequestError::Queue)?;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes(kind) {
            VIRTIO_BLK_T_IN => {
                let offset = geometry.data(sector, writable)?;
                Ok(Self::Read(
                    offset,
                    Chain::part(chain.writable(), 0, writable),
                ))
            }
            VIRTIO_BLK_T_OUT => {
                let offset = geometry.data(sector, readable)?;
                Ok(Self::Write(
                    offset,
                    Chain::part(chain.readable(), HEADER, readable),
                ))
            }
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID if writable >= ID_BYTES as u64 => Ok(Self::GetId),
            VIRTIO_BLK_T_GET_ID => Err(RequestError::Range),
            VIRTIO_BLK_T_DISCARD => {
                let extents = geometry.extents(chain, readable, MAX_DISCARD_SECTORS)?;
                // The unmap flag has no meaning here (5.2.6.2).
                if extents.iter().any(|extent| extent.unmap) {
                    return Err(RequestError::Unsupported);
                }
                Ok(Self::Discard(extents))
            }
            VIRTIO_BLK_T_WRITE_ZEROES => geometry
                .extents(chain, readable, MAX_ZEROES_SECTORS)
                .map(Self::WriteZeroes),
            _ => Err(RequestError::Unsupported),
        }
    }
}

impl Geometry {
    /// Byte offset of `len` bytes at `sector`.
    fn data(self, sector: u64, len: u64) -> Result<u64, RequestError> {
        let offset = sector
            .checked_mul(SECTOR.into())
            .ok_or(RequestError::Range)?;
        let end = offset.checked_add(len).ok_or(RequestError::Range)?;
        let whole = offset.is_multiple_of(self.block) && len.is_multiple_of(self.block);
        if whole && end <= self.bytes {
            Ok(offset)
        } else {
            Err(RequestError::Range)
        }
    }

    /// The ranges in `len` bytes behind the header.
    fn extents(
        self,
        chain: &Chain,
        len: u64,
        max_sectors: u32,
    ) -> Result<Vec<Extent>, RequestError> {
        let len = usize::try_from(len).map_err(|_| RequestError::Range)?;
        let count = u32::try_from(len / SEGMENT).unwrap_or(u32::MAX);
        if !len.is_multiple_of(SEGMENT) || !(1..=MAX_SEGMENTS).contains(&count) {
            return Err(RequestError::Range);
        }
        let mut data = vec![0; len];
        chain
            .read_at(HEADER, &mut data)
            .map_err(RequestError::Queue)?;
        data.chunks_exact(SEGMENT)
            .map(|segment| self.extent(segment, max_sectors))
            .collect()
    }

    fn extent(self, segment: &[u8], max_sectors: u32) -> Result<Extent, RequestError> {
        let (sector, rest) = segment.split_first_chunk().ok_or(RequestError::Range)?;
        let (count, rest) = rest.split_first_chunk().ok_or(RequestError::Range)?;
        let (flags, _) = rest.split_first_chunk().ok_or(RequestError::Range)?;
        let (count, flags) = (u32::from_le_bytes(*count), u32::from_le_bytes(*flags));
        if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
            return Err(RequestError::Unsupported);
        }
        if count == 0 || count > max_sectors {
            return Err(RequestError::Range);
        }
        let len = u64::from(count).saturating_mul(SECTOR.into());
        let offset = self.data(u64::from_le_bytes(*sector), len)?;
        let unmap = flags != 0;
        Ok(Extent { offset, len, unmap })
    }
}
