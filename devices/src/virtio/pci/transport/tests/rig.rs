//! An echoing device on a transport, and a driver for it.

use super::super::*;
use crate::irq::mock::{RecordingDoorbells, RecordingRouter, Vectors};
use crate::virtio::device::{NeedsReset, VirtioDevice};
use crate::virtio::mock::{Driver, memory};
use crate::virtio::worker::Worker;

pub(super) const STATUS: u64 = 0x14;
pub(super) const SELECT: u64 = 0x16;
pub(super) const SIZE: u64 = 0x18;
pub(super) const VECTOR: u64 = 0x1a;
pub(super) const ENABLE: u64 = 0x1c;
pub(super) const RINGS: u64 = 0x20;
pub(super) const NOTIFY: u64 = layout::NOTIFY_OFFSET as u64;
pub(super) const BAR_ADDRESS: u64 = 0x40_0000_0000;

/// Completes each request with one byte, or fails if the first readable byte is `!`.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) queues: Vec<Option<RequestQueue>>,
    pub(super) served: u64,
}

impl VirtioDevice for Echo {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 16]
    }

    fn config(&self) -> Vec<u8> {
        b"config".to_vec()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        self.queues = activation.queues;
        Ok(())
    }

    fn process_queue(&mut self, index: usize) -> Result<(), NeedsReset> {
        let queue = self.queues[index].as_mut().unwrap();
        while let Some(chain) = queue
            .pop()
            .map_err(|error| NeedsReset::ring("echo", &error))?
        {
            let mut first = [0];
            chain.read_at(0, &mut first).unwrap();
            if first == *b"!" {
                return Err(NeedsReset {
                    device: "echo",
                    reason: "it was asked to".into(),
                });
            }
            queue.complete(chain.head(), 1).unwrap();
            self.served += 1;
        }
        queue.notify().unwrap();
        Ok(())
    }

    fn reset(&mut self) {
        self.queues.clear();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("served", self.served)]
    }
}

pub(super) struct Rig {
    pub(super) worker: Worker,
    pub(super) device: DeviceHandle,
    pub(super) function: Arc<VirtioPci>,
    pub(super) vectors: Vectors,
    pub(super) doorbells: Arc<RecordingDoorbells>,
    pub(super) driver: Driver,
}

pub(super) fn rig() -> Rig {
    let memory = memory();
    let mut worker = Worker::new().unwrap();
    let device = worker.add(Box::new(Echo::default()));
    let router = RecordingRouter::default();
    let doorbells = Arc::new(RecordingDoorbells::default());
    let function =
        VirtioPci::new(device.clone(), memory.clone(), &router, doorbells.clone()).unwrap();
    Rig {
        worker,
        device,
        function,
        vectors: router.vectors,
        doorbells,
        driver: Driver::in_memory(memory, 0, 16),
    }
}

impl Rig {
    pub(super) fn read(&self, offset: u64, len: usize) -> u32 {
        let mut data = vec![0; len];
        self.function.bar_read(0, offset, &mut data);
        common_config::value_of(&data)
    }

    pub(super) fn write(&self, offset: u64, len: usize, value: u32) {
        let data = value.to_le_bytes();
        self.function.bar_write(0, offset, &data[..len]);
    }

    pub(super) fn status(&self) -> u32 {
        self.read(STATUS, 1)
    }

    pub(super) fn write_features(&self, features: u64) {
        for (select, word) in [(0, features), (1, features >> 32)] {
            self.write(0x08, 4, select);
            self.write(0x0c, 4, u32::try_from(word & 0xffff_ffff).unwrap());
        }
    }

    pub(super) fn negotiate(&self, features: u64) {
        self.write(STATUS, 1, 1);
        self.write(STATUS, 1, 3);
        self.write_features(features);
        self.write(STATUS, 1, 11);
    }

    pub(super) fn write_ring(&self, index: u64, address: u64) {
        let at = RINGS + 8 * index;
        self.write(at, 4, u32::try_from(address & 0xffff_ffff).unwrap());
        self.write(at + 4, 4, u32::try_from(address >> 32).unwrap());
    }

    pub(super) fn set_up_queue(&self) {
        self.write(SELECT, 2, 0);
        self.write(SIZE, 2, 16);
        self.write(VECTOR, 2, 1);
        self.write_ring(0, self.driver.descriptors());
        self.write_ring(1, self.driver.available_ring());
        self.write_ring(2, self.driver.used_ring());
        self.write(ENABLE, 2, 1);
    }

    /// Brings the device up as a sound driver does.
    pub(super) fn start(&mut self) {
        let mut config = self.function.config();
        let control = self.function.msix_register + msix::CONTROL;
        config.write(control, &0x8000_u16.to_le_bytes());
        let touched = Touched {
            register: control,
            len: 2,
        };
        self.function.after_config_write(&config, touched);
        for vector in 0..3 {
            self.write(u64::from(layout::TABLE_OFFSET) + 16 * vector + 12, 4, 0);
        }
        self.negotiate(TRANSPORT_FEATURES);
        self.write(0x10, 2, 0);
        self.set_up_queue();
        self.write(STATUS, 1, 15);
        self.worker.dispatch().unwrap();
        assert_eq!(self.status(), 15);
    }

    pub(super) fn offer(&mut self, data: &[u8]) {
        let data = self.driver.buffer(data);
        self.driver.offer(&[data]);
    }

    pub(super) fn triggered(&self, vector: usize) -> u64 {
        self.vectors.lock().unwrap()[vector].triggered
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        counters.iter().find(|(of, _)| *of == name).unwrap().1
    }
}
