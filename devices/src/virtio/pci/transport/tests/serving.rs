//! Requests from the first to the reset.

use super::super::*;
use super::rig::*;
use crate::virtio::mock::Driver;

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
