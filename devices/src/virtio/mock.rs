//! The other side of a queue, for unit tests and fuzzing: guest memory, a driver that writes rings, an interrupt that counts.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{Activation, VirtioDevice};
use super::queue::RequestQueue;
use crate::irq::Interrupt;
use crate::memory::GuestMemory;

/// Guest memory has this much at 0 and as much again behind a hole of the same size.
pub const REGION: u64 = 1 << 20;
/// First address in the hole.
pub const HOLE: u64 = REGION;
/// First address of the upper region.
pub const UPPER: u64 = 2 * REGION;
/// First address behind all memory.
pub const END: u64 = UPPER + REGION;

/// Descriptor flags (virtio 1.2, 2.7.5).
pub const NEXT: u16 = 1;
/// The device writes.
pub const WRITE: u16 = 2;
/// The buffer is a table.
pub const INDIRECT: u16 = 4;

/// Where rings lie, one queue after the other, and where buffers begin.
const RINGS: u64 = 0x1000;
const RING_STRIDE: u64 = 0x8000;
const BUFFERS: u64 = 0x4_0000;

/// A descriptor as it lies in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Descriptor {
    /// Address.
    pub address: u64,
    /// Length.
    pub len: u32,
    /// Flags.
    pub flags: u16,
    /// Index of the next one.
    pub next: u16,
}

impl Descriptor {
    /// A buffer the device reads.
    #[must_use]
    pub fn readable(address: u64, len: u32) -> Self {
        Self {
            address,
            len,
            ..Self::default()
        }
    }

    /// A buffer the device writes.
    #[must_use]
    pub fn writable(address: u64, len: u32) -> Self {
        Self {
            flags: WRITE,
            ..Self::readable(address, len)
        }
    }

    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// Counts how often it was raised.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// How often.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Interrupt for Counter {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Memory of a guest.
#[must_use]
pub fn memory() -> GuestMemory {
    let size = usize::try_from(REGION).expect("a small constant");
    let ranges = [(GuestAddress(0), size), (GuestAddress(UPPER), size)];
    let memory = GuestMemoryMmap::from_ranges(&ranges).expect("memory for the mock guest");
    GuestMemory::new(memory)
}

/// A driver's side of one queue.
pub struct Driver {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// Raised by the queue.
    pub interrupt: Arc<Counter>,
    /// The queue's doorbell.
    pub kick: Arc<EventFd>,
    size: u16,
    base: u64,
    available: u16,
    used: u16,
    next_descriptor: u16,
    next_buffer: u64,
}

impl Driver {
    /// A driver of queue 0 in memory of its own.
    #[must_use]
    pub fn new(size: u16) -> Self {
        Self::in_memory(memory(), 0, size)
    }

    /// A driver of queue `index`, at most 6, in `memory`.
    #[must_use]
    pub fn in_memory(memory: GuestMemory, index: u16, size: u16) -> Self {
        Self {
            memory,
            interrupt: Arc::default(),
            kick: Arc::new(EventFd::new(EFD_NONBLOCK).expect("eventfd")),
            size,
            base: RINGS + RING_STRIDE * u64::from(index),
            available: 0,
            used: 0,
            next_descriptor: 0,
            next_buffer: BUFFERS + 0x1_0000 * u64::from(index),
        }
    }

    /// Address of the descriptor table.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    /// Address of the available ring.
    #[must_use]
    pub fn available_ring(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    /// Address of the used ring.
    #[must_use]
    pub fn used_ring(&self) -> u64 {
        (self.available_ring() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }

    /// The device's side.
    #[must_use]
    pub fn queue(&self) -> RequestQueue {
        let mut queue = Queue::new(self.size).expect("size");
        queue
            .try_set_desc_table_address(GuestAddress(self.descriptors()))
            .expect("alignment");
        queue
            .try_set_avail_ring_address(GuestAddress(self.available_ring()))
            .expect("alignment");
        queue
            .try_set_used_ring_address(GuestAddress(self.used_ring()))
            .expect("alignment");
        queue.set_ready(true);
        RequestQueue::new(
            queue,
            self.memory.clone(),
            self.kick.clone(),
            self.interrupt.clone(),
        )
    }

    /// Writes to guest memory.
    pub fn write(&self, address: u64, data: &[u8]) {
        let memory = self.memory.memory();
        memory
            .write_slice(data, GuestAddress(address))
            .expect("guest memory");
    }

    /// Reads from guest memory.
    #[must_use]
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        let memory = self.memory.memory();
        memory
            .read_slice(&mut data, GuestAddress(address))
            .expect("guest memory");
        data
    }

    fn word(&self, address: u64) -> u16 {
        let bytes = self.read(address, 2);
        u16::from_le_bytes(bytes.try_into().expect("two bytes"))
    }

    /// Memory that no other buffer has.
    pub fn allocate(&mut self, len: u32) -> u64 {
        let address = self.next_buffer;
        self.next_buffer += u64::from(len).next_multiple_of(16);
        address
    }

    /// A readable buffer with `data`.
    pub fn buffer(&mut self, data: &[u8]) -> Descriptor {
        let len = u32::try_from(data.len()).expect("a small buffer");
        let address = self.allocate(len);
        self.write(address, data);
        Descriptor::readable(address, len)
    }

    /// A writable buffer.
    pub fn room(&mut self, len: u32) -> Descriptor {
        Descriptor::writable(self.allocate(len), len)
    }

    /// Puts `descriptors` into the table as one chain, and makes it available. Returns its head.
    pub fn offer(&mut self, descriptors: &[Descriptor]) -> u16 {
        let head = self.next_descriptor;
        let mut links: VecDeque<u16> = (0..descriptors.len())
            .map(|_| {
                let index = self.next_descriptor;
                self.next_descriptor = (index + 1) % self.size;
                index
            })
            .collect();
        for descriptor in descriptors {
            let index = links.pop_front().expect("one for each");
            let mut descriptor = *descriptor;
            if let Some(next) = links.front() {
                descriptor.flags |= NEXT;
                descriptor.next = *next;
            }
            self.set_descriptor(index, descriptor);
        }
        self.make_available(head);
        head
    }

    /// Writes one entry of the table as it is.
    pub fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        let address = self.descriptors() + 16 * u64::from(index);
        self.write(address, &descriptor.bytes());
    }

    /// Writes a table of descriptors, as they are, to a buffer. Returns the descriptor that refers to it.
    pub fn table(&mut self, descriptors: &[Descriptor]) -> Descriptor {
        let bytes: Vec<u8> = descriptors.iter().flat_map(|entry| entry.bytes()).collect();
        Descriptor {
            flags: INDIRECT,
            ..self.buffer(&bytes)
        }
    }

    /// Puts `head` into the available ring.
    pub fn make_available(&mut self, head: u16) {
        let slot = u64::from(self.available % self.size);
        self.write(self.available_ring() + 4 + 2 * slot, &head.to_le_bytes());
        self.set_available_index(self.available.wrapping_add(1));
    }

    /// Sets the available ring's index.
    pub fn set_available_index(&mut self, index: u16) {
        self.available = index;
        self.write(self.available_ring() + 2, &index.to_le_bytes());
    }

    /// Sets the available ring's flags.
    pub fn set_available_flags(&self, flags: u16) {
        self.write(self.available_ring(), &flags.to_le_bytes());
    }

    /// Head and written length of each request the device has completed since the last call.
    pub fn used(&mut self) -> Vec<(u16, u32)> {
        let index = self.word(self.used_ring() + 2);
        let mut completed = Vec::new();
        while self.used != index {
            let slot = u64::from(self.used % self.size);
            let entry = self.read(self.used_ring() + 4 + 8 * slot, 8);
            let (head, len) = entry.split_at(4);
            let head = u32::from_le_bytes(head.try_into().expect("four bytes"));
            let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
            completed.push((u16::try_from(head).expect("a head"), len));
            self.used = self.used.wrapping_add(1);
        }
        completed
    }
}

/// Gives `device` the queues of `drivers`, as the transport would.
pub fn activate(device: &mut dyn VirtioDevice, drivers: &[&Driver]) -> Arc<Counter> {
    let config_changed = Arc::new(Counter::default());
    let activation = Activation {
        queues: drivers.iter().map(|driver| Some(driver.queue())).collect(),
        features: device.features(),
        config_changed: config_changed.clone(),
    };
    device.activate(activation).expect("sound queues");
    config_changed
}
