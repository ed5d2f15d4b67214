//! What a driver may agree, in which order, and what stays fixed then.

use super::super::*;
use super::rig::*;

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
