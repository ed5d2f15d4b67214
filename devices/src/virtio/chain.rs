//! A request's descriptors, read once and checked before a device sees any of them (virtio 1.2, 2.7.5).

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap, VolatileSlice};

use super::queue::QueueError;
use crate::memory::MemorySnapshot;

/// Bytes of one descriptor.
const DESCRIPTOR_SIZE: u32 = 16;
/// Most entries of an indirect table: as many as a descriptor can index.
const MAX_INDIRECT_ENTRIES: u32 = 1 << 16;

/// One buffer of a chain, wholly inside one region of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address.
    pub address: GuestAddress,
    /// Length in bytes, never 0.
    pub len: u32,
}

/// One request: buffers to read, then buffers to write.
pub struct Chain {
    memory: MemorySnapshot,
    raw: DescriptorChain<MemorySnapshot>,
    buffers: Vec<Buffer>,
    /// How many of `buffers` are readable.
    readable: usize,
}

/// A queue's descriptor table, and what its driver may put into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// Its address.
    pub(super) address: GuestAddress,
    /// Its entries: also the most descriptors of a chain.
    pub(super) size: u16,
    /// Whether `RING_INDIRECT_DESC` was negotiated.
    pub(super) indirect: bool,
}

impl Chain {
    /// Index of the first descriptor: what [`complete`](super::queue::RequestQueue::complete) wants back.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.raw.head_index()
    }

    /// What the device may read, in order.
    #[must_use]
    pub fn readable(&self) -> &[Buffer] {
        self.buffers.get(..self.readable).unwrap_or_default()
    }

    /// What the device may write, in order.
    #[must_use]
    pub fn writable(&self) -> &[Buffer] {
        self.buffers.get(self.readable..).unwrap_or_default()
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        total(self.readable())
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        total(self.writable())
    }

    /// Guest memory as it was when the chain was taken.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The same, to be kept.
    pub(super) fn snapshot(&self) -> &MemorySnapshot {
        &self.memory
    }

    /// The chain as the rust-vmm crates know it, for servers that take nothing else. It reads the descriptors again.
    #[must_use]
    pub fn raw(&self) -> DescriptorChain<MemorySnapshot> {
        self.raw.clone()
    }

    /// Host slices of `buffers`, for vectored I/O straight to and from guest memory.
    pub fn slices(&self, buffers: &[Buffer]) -> Result<Vec<VolatileSlice<'_>>, QueueError> {
        buffers.iter().map(|buffer| self.slice(*buffer)).collect()
    }

    /// Host slice of one buffer.
    pub(super) fn slice(&self, buffer: Buffer) -> Result<VolatileSlice<'_>, QueueError> {
        self.memory
            .get_slice(buffer.address, buffer.len as usize)
            .map_err(|_| outside(self.head(), buffer))
    }

    /// `len` bytes of `buffers` from byte `offset` on, or as many as there are.
    #[must_use]
    pub fn part(buffers: &[Buffer], offset: u64, len: u64) -> Vec<Buffer> {
        let mut left = len;
        let take = |buffer: Buffer| {
            let len = u32::try_from(left).map_or(buffer.len, |left| buffer.len.min(left));
            left = left.saturating_sub(len.into());
            (len > 0).then_some(Buffer { len, ..buffer })
        };
        skip(buffers, offset).map_while(take).collect()
    }

    /// Copies from the readable buffers, skipping `offset` bytes. Returns how many bytes there were, at most `data.len()`.
    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> Result<usize, QueueError> {
        let mut rest = data;
        let mut done = 0_usize;
        for buffer in skip(self.readable(), offset) {
            let (part, later) = rest.split_at_mut(rest.len().min(buffer.len as usize));
            if part.is_empty() {
                break;
            }
            self.memory
                .read_slice(part, buffer.address)
                .map_err(|_| outside(self.head(), buffer))?;
            done = done.saturating_add(part.len());
            rest = later;
        }
        Ok(done)
    }

    /// Copies to the writable buffers, skipping `offset` bytes. Returns how many bytes there was room for.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<usize, QueueError> {
        let mut rest = data;
        let mut done = 0_usize;
        for buffer in skip(self.writable(), offset) {
            let (part, later) = rest.split_at(rest.len().min(buffer.len as usize));
            if part.is_empty() {
                break;
            }
            self.memory
                .write_slice(part, buffer.address)
                .map_err(|_| outside(self.head(), buffer))?;
            done = done.saturating_add(part.len());
            rest = later;
        }
        Ok(done)
    }

    /// Reads the chain that begins at `raw`'s head, each descriptor once.
    pub(super) fn read(
        memory: MemorySnapshot,
        raw: DescriptorChain<MemorySnapshot>,
        table: Table,
    ) -> Result<Self, QueueError> {
        let head = raw.head_index();
        let mut chain = Self {
            memory,
            raw,
            buffers: Vec::new(),
            readable: 0,
        };
        let mut walk = Walk::new(table, head);
        let mut written = false;
        while let Some(descriptor) = walk.next(&chain.memory)? {
            if descriptor.is_write_only() {
                written = true;
            } else if written {
                return Err(QueueError::Order { head });
            }
            chain.add(&descriptor)?;
        }
        Ok(chain)
    }

    /// Takes `descriptor` in, one buffer for each region of memory it touches.
    fn add(&mut self, descriptor: &Descriptor) -> Result<(), QueueError> {
        let whole = Buffer {
            address: descriptor.addr(),
            len: descriptor.len(),
        };
        let head = self.raw.head_index();
        let mut address = whole.address;
        for slice in self.memory.get_slices(address, whole.len as usize) {
            let len = slice.ok().and_then(|slice| u32::try_from(slice.len()).ok());
            let len = len.ok_or_else(|| outside(head, whole))?;
            self.buffers.push(Buffer { address, len });
            if !descriptor.is_write_only() {
                self.readable = self.buffers.len();
            }
            address = GuestAddress(address.raw_value().saturating_add(len.into()));
        }
        Ok(())
    }
}

/// The way along a chain: at most as many descriptors as the queue has, at most one switch to an indirect table.
struct Walk {
    head: u16,
    table: GuestAddress,
    entries: u32,
    next: Option<u16>,
    steps_left: u16,
    bytes: u32,
    indirect: bool,
}

impl Walk {
    fn new(table: Table, head: u16) -> Self {
        Self {
            head,
            table: table.address,
            entries: table.size.into(),
            next: Some(head),
            steps_left: table.size,
            bytes: 0,
            indirect: table.indirect,
        }
    }

    /// The next descriptor that is a buffer.
    fn next(&mut self, memory: &GuestMemoryMmap) -> Result<Option<Descriptor>, QueueError> {
        let Some(index) = self.next else {
            return Ok(None);
        };
        let mut descriptor = self.fetch(memory, index)?;
        if descriptor.refers_to_indirect_table() {
            self.enter(&descriptor)?;
            descriptor = self.fetch(memory, 0)?;
            if descriptor.refers_to_indirect_table() {
                return Err(self.malformed());
            }
        }
        let left = self.steps_left.checked_sub(1);
        let bytes = self.bytes.checked_add(descriptor.len());
        let (Some(left), Some(bytes)) = (left, bytes) else {
            return Err(self.malformed());
        };
        self.steps_left = left;
        self.bytes = bytes;
        self.next = descriptor.has_next().then(|| descriptor.next());
        Ok(Some(descriptor))
    }

    fn fetch(&self, memory: &GuestMemoryMmap, index: u16) -> Result<Descriptor, QueueError> {
        let index = Some(u32::from(index)).filter(|index| *index < self.entries);
        index
            .and_then(|index| index.checked_mul(DESCRIPTOR_SIZE))
            .and_then(|offset| self.table.checked_add(offset.into()))
            .and_then(|address| memory.read_obj(address).ok())
            .ok_or_else(|| self.malformed())
    }

    fn enter(&mut self, descriptor: &Descriptor) -> Result<(), QueueError> {
        let entries = descriptor.len() / DESCRIPTOR_SIZE;
        let whole = descriptor.len().is_multiple_of(DESCRIPTOR_SIZE);
        let sound = whole && (1..=MAX_INDIRECT_ENTRIES).contains(&entries);
        if !self.indirect || !sound || descriptor.has_next() {
            return Err(self.malformed());
        }
        self.indirect = false;
        self.table = descriptor.addr();
        self.entries = entries;
        Ok(())
    }

    fn malformed(&self) -> QueueError {
        QueueError::Malformed { head: self.head }
    }
}

fn outside(head: u16, buffer: Buffer) -> QueueError {
    QueueError::OutsideMemory {
        head,
        address: buffer.address.raw_value(),
        len: buffer.len,
    }
}

fn total(buffers: &[Buffer]) -> u64 {
    let lengths = buffers.iter().map(|buffer| u64::from(buffer.len));
    lengths.fold(0, u64::saturating_add)
}

/// What is left of `buffers` behind their first `offset` bytes.
fn skip(buffers: &[Buffer], mut offset: u64) -> impl Iterator<Item = Buffer> {
    buffers.iter().filter_map(move |buffer| {
        let skipped = offset.min(buffer.len.into());
        offset = offset.saturating_sub(skipped);
        let skipped = u32::try_from(skipped).ok()?;
        let len = buffer.len.checked_sub(skipped).filter(|len| *len > 0)?;
        let address = buffer.address.checked_add(skipped.into())?;
        Some(Buffer { address, len })
    })
}
