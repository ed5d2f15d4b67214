//! The transport and the worker against hostile and sound drivers (SECURITY.md, F4, F7).

use super::*;
use crate::irq::mock::{RecordingDoorbells, RecordingRouter, Vectors};
use crate::virtio::device::{NeedsReset, VirtioDevice};
use crate::virtio::mock::{Driver, memory};
use crate::virtio::worker::Worker;

const STATUS: u64 = 0x14;
const SELECT: u64 = 0x16;
const SIZE: u64 = 0x18;
const VECTOR: u64 = 0x1a;
const ENABLE: u64 = 0x1c;
const RINGS: u64 = 0x20;
const NOTIFY: u64 = layout::NOTIFY_OFFSET as u64;
const BAR_ADDRESS: u64 = 0x40_0000_0000;

/// Completes each request with one byte, or fails if the first readable byte is `!`.
#[derive(Default)]
struct Echo {
    queues: Vec<Option<RequestQueue>>,
    served: u64,
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

struct Rig {
    worker: Worker,
    device: DeviceHandle,
    function: Arc<VirtioPci>,
    vectors: Vectors,
    doorbells: Arc<RecordingDoorbells>,
    driver: Driver,
}

fn rig() -> Rig {
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
    fn read(&self, offset: u64, len: usize) -> u32 {
        let mut data = vec![0; len];
        self.function.bar_read(0, offset, &mut data);
        common_config::value_of(&data)
    }

    fn write(&self, offset: u64, len: usize, value: u32) {
        let data = value.to_le_bytes();
        self.function.bar_write(0, offset, &data[..len]);
    }

    fn status(&self) -> u32 {
        self.read(STATUS, 1)
    }

    fn write_features(&self, features: u64) {
        for (select, word) in [(0, features), (1, features >> 32)] {
            self.write(0x08, 4, select);
            self.write(0x0c, 4, u32::try_from(word & 0xffff_ffff).unwrap());
        }
    }

    fn negotiate(&self, features: u64) {
        self.write(STATUS, 1, 1);
        self.write(STATUS, 1, 3);
        self.write_features(features);
        self.write(STATUS, 1, 11);
    }

    fn write_ring(&self, index: u64, address: u64) {
        let at = RINGS + 8 * index;
        self.write(at, 4, u32::try_from(address & 0xffff_ffff).unwrap());
        self.write(at + 4, 4, u32::try_from(address >> 32).unwrap());
    }

    fn set_up_queue(&self) {
        self.write(SELECT, 2, 0);
        self.write(SIZE, 2, 16);
        self.write(VECTOR, 2, 1);
        self.write_ring(0, self.driver.descriptors());
        self.write_ring(1, self.driver.available_ring());
        self.write_ring(2, self.driver.used_ring());
        self.write(ENABLE, 2, 1);
    }

    /// Brings the device up as a sound driver does.
    fn start(&mut self) {
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

    fn offer(&mut self, data: &[u8]) {
        let data = self.driver.buffer(data);
        self.driver.offer(&[data]);
    }

    fn triggered(&self, vector: usize) -> u64 {
        self.vectors.lock().unwrap()[vector].triggered
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        counters.iter().find(|(of, _)| *of == name).unwrap().1
    }
}

#[test]
fn a_sound_driver_gets_its_requests_served() {
    let mut rig = rig();
    rig.start();
    for (expected, slow) in [(1, true), (2, false)] {
        rig.offer(b"request");
        if slow {
            rig.write(NOTIFY, 2, 0);
        } else {
            rig.function.bar_moved(0, None, Some(BAR_ADDRESS));
            assert!(rig.doorbells.ring(BAR_ADDRESS + NOTIFY));
        }
        rig.worker.dispatch().unwrap();
        assert_eq!(rig.driver.used().len(), 1);
        assert_eq!(rig.counter("served"), expected);
    }
    assert!(rig.triggered(1) >= 1);
    assert_eq!((rig.triggered(0), rig.triggered(2)), (0, 0));
    assert_eq!(rig.read(0x1000, 1), 1);
    assert_eq!(rig.read(0x1000, 1), 0);
}

#[test]
fn requests_from_before_driver_ok_are_served_after_it() {
    let mut rig = rig();
    rig.negotiate(VERSION_1);
    rig.set_up_queue();
    rig.offer(b"early");
    rig.worker.dispatch().unwrap();
    assert!(rig.driver.used().is_empty());
    rig.write(STATUS, 1, 15);
    rig.worker.dispatch().unwrap();
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.driver.used().len(), 1);
}

#[test]
fn features_must_be_offered_and_modern() {
    for (features, accepted) in [
        (TRANSPORT_FEATURES, true),
        (VERSION_1, true),
        (0, false),
        (1 << VIRTIO_RING_F_INDIRECT_DESC, false),
        (TRANSPORT_FEATURES | 1, false),
        (TRANSPORT_FEATURES | 1 << 40, false),
        (u64::MAX, false),
    ] {
        let rig = rig();
        rig.negotiate(features);
        assert_eq!(rig.status() & 8 != 0, accepted, "{features:#x}");
    }
    let rig = rig();
    for (select, expected) in [(0, 0x3000_0000), (1, 1), (2, 0), (u32::MAX, 0)] {
        rig.write(0, 4, select);
        assert_eq!(rig.read(4, 4), expected, "word {select}");
    }
}

#[test]
fn features_are_frozen_once_agreed() {
    let rig = rig();
    rig.write_features(u64::MAX);
    rig.write(0x08, 4, 0);
    assert_eq!(rig.read(0x0c, 4), 0, "written before DRIVER");
    rig.negotiate(VERSION_1);
    rig.write_features(u64::MAX);
    rig.write(0x08, 4, 0);
    assert_eq!(rig.read(0x0c, 4), 0);
}

#[test]
fn registers_of_queues_that_do_not_exist_read_as_zero() {
    let rig = rig();
    rig.negotiate(VERSION_1);
    for select in (0..=0xffff_u32)
        .step_by(61)
        .chain([2, 0x7fff, 0x8000, 0xffff])
    {
        rig.write(SELECT, 2, select);
        for offset in (SIZE..=0x1e).step_by(2) {
            rig.write(offset, 2, 1);
            let value = rig.read(offset, 2);
            assert!(
                select < 2 || value == 0,
                "queue {select}, {offset:#x}: {value}"
            );
        }
    }
    assert_eq!(rig.read(0x12, 2), 2);
}

#[test]
fn bad_queues_stay_disabled() {
    let rig = rig();
    rig.negotiate(VERSION_1);
    for size in [0, 3, 32, 65_535] {
        rig.set_up_queue_with(|rig| rig.write(SIZE, 2, size));
        assert_eq!(rig.read(ENABLE, 2), 0, "size {size}");
    }
    for (ring, address) in [(0, 8), (1, 1), (2, 2), (0, BAR_ADDRESS), (2, u64::MAX - 3)] {
        rig.set_up_queue_with(|rig| rig.write_ring(ring, address));
        assert_eq!(rig.read(ENABLE, 2), 0, "ring {ring} at {address:#x}");
    }
    rig.set_up_queue();
    assert_eq!(rig.read(ENABLE, 2), 1);
}

impl Rig {
    fn set_up_queue_with(&self, spoil: impl Fn(&Self)) {
        self.write_ring(0, self.driver.descriptors());
        self.write_ring(1, self.driver.available_ring());
        self.write_ring(2, self.driver.used_ring());
        self.write(SIZE, 2, 16);
        spoil(self);
        self.write(ENABLE, 2, 1);
    }
}

#[test]
fn queues_are_enabled_only_after_features() {
    let rig = rig();
    rig.write(STATUS, 1, 1);
    rig.write(STATUS, 1, 3);
    rig.set_up_queue();
    assert_eq!(rig.read(ENABLE, 2), 0);
}

#[test]
fn nothing_changes_after_driver_ok() {
    let mut rig = rig();
    rig.start();
    let snapshot = |rig: &Rig| {
        (0..2)
            .map(|select| {
                rig.write(SELECT, 2, select);
                let words = (SIZE..0x20).step_by(2).map(|at| rig.read(at, 2));
                let rings = (RINGS..0x38).step_by(4).map(|at| rig.read(at, 4));
                words
                    .chain(rings)
                    .chain([rig.read(0x10, 2)])
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let before = snapshot(&rig);
    for select in 0..2 {
        rig.write(SELECT, 2, select);
        for offset in (SIZE..0x20).step_by(2).chain([0x10]) {
            rig.write(offset, 2, 0);
            rig.write(offset, 2, 2);
        }
        for offset in (RINGS..0x38).step_by(4) {
            rig.write(offset, 4, 0x1000);
        }
    }
    rig.write_features(u64::MAX);
    for status in [1, 3, 7, 8, 0x4f, 0x30] {
        rig.write(STATUS, 1, status);
    }
    assert_eq!(snapshot(&rig), before);
    assert_eq!(rig.status(), 15);
    rig.offer(b"still served");
    rig.write(NOTIFY, 4, 0);
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.driver.used().len(), 1);
}

#[test]
fn vectors_that_do_not_exist_read_back_as_none() {
    let rig = rig();
    rig.negotiate(VERSION_1);
    for (vector, expected) in [(0, 0), (2, 2), (3, 0xffff), (0xffff, 0xffff)] {
        rig.write(VECTOR, 2, vector);
        assert_eq!(rig.read(VECTOR, 2), expected);
        rig.write(0x10, 2, vector);
        assert_eq!(rig.read(0x10, 2), expected);
    }
}

#[test]
fn a_reset_ends_when_the_worker_has_let_go() {
    let mut rig = rig();
    rig.start();
    rig.write(STATUS, 1, 0);
    assert_ne!(rig.status(), 0, "the worker still has the queues");
    rig.write(STATUS, 1, 1);
    rig.write(SELECT, 2, 0);
    assert_ne!(rig.status() & 4, 0, "writes during a reset do nothing");
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.status(), 0);
    assert_eq!(rig.read(ENABLE, 2), 0);
    rig.offer(b"nobody serves this");
    rig.write(NOTIFY, 2, 0);
    rig.worker.dispatch().unwrap();
    assert!(rig.driver.used().is_empty());
    rig.driver = Driver::in_memory(memory_of(&rig), 1, 16);
    rig.start();
    rig.offer(b"served again");
    rig.write(NOTIFY, 2, 0);
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.driver.used().len(), 1);
    assert_eq!(rig.counter("resets"), 1);
}

fn memory_of(rig: &Rig) -> GuestMemory {
    rig.driver.memory.clone()
}

#[test]
fn a_reset_before_driver_ok_needs_no_worker() {
    let rig = rig();
    rig.negotiate(VERSION_1);
    rig.set_up_queue();
    rig.write(STATUS, 1, 0);
    assert_eq!((rig.status(), rig.read(ENABLE, 2)), (0, 0));
    rig.write(STATUS, 1, 0x80);
    rig.write(STATUS, 1, 0x81);
    assert_eq!(rig.status(), 0x80, "FAILED stops everything but a reset");
    rig.write(STATUS, 1, 0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn a_broken_driver_is_told_and_recovers_by_reset() {
    let mut rig = rig();
    rig.start();
    rig.offer(b"!");
    rig.write(NOTIFY, 2, 0);
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.status(), 15 | 0x40);
    assert_eq!(rig.triggered(0), 1, "configuration interrupt");
    assert_eq!(rig.read(0x1000, 1), 2);
    rig.offer(b"not served");
    for _ in 0..3 {
        rig.write(NOTIFY, 2, 0);
        rig.worker.dispatch().unwrap();
    }
    assert!(rig.driver.used().is_empty());
    assert_eq!((rig.counter("served"), rig.counter("failures")), (0, 1));
    rig.write(STATUS, 1, 0);
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.status(), 0);
    rig.driver = Driver::in_memory(memory_of(&rig), 1, 16);
    rig.start();
    rig.offer(b"fine");
    rig.write(NOTIFY, 2, 0);
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.driver.used().len(), 1);
}

#[test]
fn a_paused_worker_serves_nothing_and_forgets_nothing() {
    let mut rig = rig();
    rig.start();
    rig.worker.pause().unwrap();
    rig.offer(b"waits");
    rig.write(NOTIFY, 2, 0);
    rig.worker.dispatch().unwrap();
    assert!(rig.driver.used().is_empty());
    rig.worker.resume().unwrap();
    rig.worker.dispatch().unwrap();
    assert_eq!(rig.driver.used().len(), 1);
}

#[test]
fn a_worker_on_a_thread_obeys_its_handle() {
    let mut rig = rig();
    rig.start();
    let Rig { worker, .. } = rig;
    let handle = worker.handle();
    let thread = std::thread::spawn(move || worker.run());
    handle.pause().unwrap().recv().unwrap();
    rig.driver.memory.memory();
    let data = rig.driver.buffer(b"waits");
    rig.driver.offer(&[data]);
    rig.function.bar_write(0, NOTIFY, &[0, 0]);
    handle.resume().unwrap();
    let pause = handle.pause().unwrap();
    pause.recv().unwrap();
    handle.stop().unwrap();
    thread.join().unwrap().unwrap();
    // The driver of a device whose worker has gone can still reset it.
    rig.function.bar_write(0, STATUS, &[0]);
    let mut status = [0xff];
    rig.function.bar_read(0, STATUS, &mut status);
    assert_eq!(status, [0]);
    assert!(handle.pause().is_err());
}

#[test]
fn doorbells_follow_the_bar() {
    let rig = rig();
    let at = |base: u64| vec![base + NOTIFY, base + NOTIFY + 4];
    rig.function.bar_moved(0, None, Some(BAR_ADDRESS));
    assert_eq!(rig.doorbells.addresses(), at(BAR_ADDRESS));
    rig.function
        .bar_moved(0, Some(BAR_ADDRESS), Some(BAR_ADDRESS + 0x8000));
    assert_eq!(rig.doorbells.addresses(), at(BAR_ADDRESS + 0x8000));
    rig.function.bar_moved(0, Some(BAR_ADDRESS + 0x8000), None);
    assert!(rig.doorbells.addresses().is_empty());
}

#[test]
fn every_access_to_the_bar_is_harmless() {
    let mut rig = rig();
    rig.start();
    for offset in (0..BAR.size)
        .step_by(3)
        .chain(0..0x40)
        .chain([u64::MAX, u64::MAX - 7])
    {
        // The status may be reset, and the table changed: neither is the point here.
        for len in [1, 2, 3, 4, 8] {
            let mut data = vec![0; len];
            rig.function.bar_read(0, offset, &mut data);
            rig.function.bar_write(0, offset, &vec![0xff; len]);
            rig.function.bar_write(0, offset, &vec![0; len]);
        }
        rig.worker.dispatch().unwrap();
    }
    assert_eq!(rig.read(0x2000, 4), u32::from_le_bytes(*b"conf"));
    assert_eq!(rig.read(0x2ffc, 4), 0);
}

#[test]
fn the_bar_can_be_reached_through_configuration_space() {
    let rig = rig();
    let mut config = rig.function.config();
    let base = rig.function.window_register;
    let mut put = |register: u16, data: &[u8]| {
        config.write(base + register, data);
        let len = u16::try_from(data.len()).unwrap();
        let register = base + register;
        rig.function
            .after_config_write(&config, Touched { register, len });
    };
    put(layout::WINDOW_OFFSET, &0x14_u32.to_le_bytes());
    put(layout::WINDOW_LENGTH, &1_u32.to_le_bytes());
    put(layout::WINDOW_DATA, &[1]);
    assert_eq!(rig.status(), 1);
    for (offset, len) in [
        (0x14_u32, 0_u32),
        (0x14, 3),
        (0x15, 2),
        (u32::MAX, 4),
        (0x14, u32::MAX),
    ] {
        put(layout::WINDOW_OFFSET, &offset.to_le_bytes());
        put(layout::WINDOW_LENGTH, &len.to_le_bytes());
        put(layout::WINDOW_DATA, &[0; 4]);
        assert_eq!(rig.status(), 1, "{len} bytes at {offset:#x}");
    }
    put(layout::WINDOW_OFFSET, &0x2000_u32.to_le_bytes());
    put(layout::WINDOW_LENGTH, &4_u32.to_le_bytes());
    let register = base + layout::WINDOW_DATA;
    rig.function
        .before_config_read(&mut config, Touched { register, len: 4 });
    assert_eq!(config.dword(register).to_le_bytes(), *b"conf");
}
