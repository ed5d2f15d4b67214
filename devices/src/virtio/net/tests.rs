//! What the device does with packets and commands, good and bad.

mod rig;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_MQ,
};

use self::rig::{Rig, SIZE, packet};
use super::features::{GUEST_OFFLOADS, bit};
use super::limits::MAX_PACKET;
use super::*;
use crate::virtio::mock::{Descriptor, HOLE};

#[test]
fn frames_are_sent_with_their_header() {
    let mut rig = Rig::mergeable(true);
    let whole = packet(80);
    let split = packet(300);
    let driver = &mut rig.drivers[1];
    let one = driver.buffer(&whole);
    let parts = [&split[..5], &split[5..14], &split[14..]].map(|part| driver.buffer(part));
    let heads = [driver.offer(&[one]), driver.offer(&parts)];
    rig.net.process_queue(1).unwrap();
    assert_eq!(rig.hosts[0].receive().unwrap(), whole);
    assert_eq!(rig.hosts[0].receive().unwrap(), split);
    let used = rig.drivers[1].used();
    assert_eq!(used, [(heads[0], 0), (heads[1], 0)]);
    assert_eq!(rig.counter("sent"), 2);
    assert_eq!(rig.counter("sent_bytes"), 80 + 300 - 24);
}

#[test]
fn malformed_packets_are_dropped_and_the_next_is_sent() {
    let mut rig = Rig::mergeable(true);
    let driver = &mut rig.drivers[1];
    let mut flags = packet(80);
    flags[0] = 0xff;
    let mut gso = packet(80);
    gso[1] = 7;
    for bad in [packet(12), packet(25), flags, gso] {
        let buffer = driver.buffer(&bad);
        driver.offer(&[buffer]);
    }
    let cut = driver.buffer(&[0; 3]);
    driver.offer(&[cut]);
    let giant = Descriptor::readable(0x4_0000, 0x2_0000);
    driver.offer(&[giant]);
    let room = driver.room(100);
    driver.offer(&[room]);
    let good = driver.buffer(&packet(26));
    driver.offer(&[good]);
    rig.net.process_queue(1).unwrap();
    assert_eq!(rig.hosts[0].receive().unwrap(), packet(26));
    assert_eq!(rig.hosts[0].receive(), None);
    assert_eq!(rig.drivers[1].used().len(), 8);
    assert_eq!(rig.counter("send_malformed"), 7);
    assert_eq!(rig.counter("sent"), 1);
}

#[test]
fn a_host_that_takes_nothing_loses_packets_only() {
    let mut rig = Rig::mergeable(true);
    rig.hosts.clear();
    let driver = &mut rig.drivers[1];
    let buffer = driver.buffer(&packet(80));
    driver.offer(&[buffer]);
    // The mock's host is gone: SIGPIPE is ignored in Rust programs, the write fails.
    rig.net.process_queue(1).unwrap();
    assert_eq!(rig.drivers[1].used().len(), 1);
    assert_eq!(rig.counter("send_refused"), 1);
}

#[test]
fn a_packet_fills_one_buffer_or_several() {
    let mut rig = Rig::mergeable(true);
    let rooms: Vec<_> = (0..8).map(|_| rig.room(1000)).collect();
    rig.hosts[0].send(&packet(700));
    rig.hosts[0].send(&packet(2500));
    rig.hosts[0].send(&packet(2000));
    rig.net.process_events().unwrap();
    let received = rig.received(&rooms);
    let lengths: Vec<_> = received.iter().map(Vec::len).collect();
    assert_eq!(lengths, [700, 1000, 1000, 500, 1000, 1000]);
    for (first, count, packet) in [
        (0, 1, packet(700)),
        (1, 3, packet(2500)),
        (4, 2, packet(2000)),
    ] {
        let mut expected = packet;
        expected[10] = count;
        let parts = &received[first..first + usize::from(count)];
        assert!(parts.concat() == expected, "{first}");
    }
    assert_eq!(rig.counter("received"), 3);
    assert_eq!(rig.counter("received_bytes"), 700 + 2500 + 2000 - 36);
    assert_eq!(rig.drivers[0].interrupt.count(), 1);
}

#[test]
fn without_buffers_the_port_is_left_alone_until_the_kick() {
    let mut rig = Rig::mergeable(true);
    assert!(rig.net.pairs[0].watched);
    rig.hosts[0].send(&packet(100));
    rig.net.process_events().unwrap();
    assert!(!rig.net.pairs[0].watched);
    assert_eq!(rig.counter("receive_starved"), 1);
    let room = rig.room(2000);
    rig.net.process_queue(0).unwrap();
    assert!(rig.net.pairs[0].watched);
    rig.net.process_events().unwrap();
    assert_eq!(rig.received(&[room])[0].len(), 100);
}

#[test]
fn the_end_of_a_packet_waits_for_more_buffers() {
    let mut rig = Rig::mergeable(true);
    let mut rooms = vec![rig.room(1000)];
    let long = packet(40_000);
    rig.hosts[0].send(&long);
    rig.hosts[0].send(&packet(60));
    rig.net.process_events().unwrap();
    assert_eq!(rig.drivers[0].used(), []);
    assert!(!rig.net.pairs[0].watched);
    rooms.push(rig.room(20_000));
    rig.net.process_queue(0).unwrap();
    rig.net.process_events().unwrap();
    assert_eq!(rig.drivers[0].used(), []);
    rooms.extend([rig.room(19_500), rig.room(100)]);
    rig.net.process_queue(0).unwrap();
    rig.net.process_events().unwrap();
    let received = rig.received(&rooms);
    let mut expected = long;
    expected[10] = 3;
    assert!(received[..3].concat() == expected);
    assert_eq!(received[3].len(), 60);
}

#[test]
fn a_packet_longer_than_all_buffers_of_a_queue_is_dropped() {
    let mut rig = Rig::mergeable(true);
    let rooms: Vec<_> = (0..SIZE).map(|_| rig.room(100)).collect();
    rig.hosts[0].send(&packet(1601));
    rig.hosts[0].send(&packet(1600));
    rig.net.process_events().unwrap();
    assert_eq!(rig.counter("receive_dropped"), 1);
    assert_eq!(rig.received(&rooms).concat().len(), 1600);
}

#[test]
fn without_mergeable_buffers_a_packet_goes_into_one_or_nowhere() {
    let mut rig = Rig::mergeable(false);
    let rooms = [rig.room(1000), rig.room(1000)];
    rig.hosts[0].send(&packet(1001));
    rig.hosts[0].send(&packet(1000));
    rig.hosts[0].send(&packet(100));
    rig.net.process_events().unwrap();
    let received = rig.received(&rooms);
    assert_eq!(received[0].len(), 1000);
    assert_eq!(received[1].len(), 100);
    assert_eq!(received[1][10..12], [1, 0]);
    assert_eq!(rig.counter("receive_dropped"), 1);
}

#[test]
fn the_longest_packet_comes_through() {
    let mut rig = Rig::mergeable(true);
    let room = Descriptor::writable(0x8_0000, 0x1_8000);
    let head = rig.drivers[0].offer(&[room]);
    let mut longest = packet(MAX_PACKET);
    rig.hosts[0].send(&longest);
    rig.net.process_events().unwrap();
    longest[10] = 1;
    assert!(rig.received(&[(head, room.address)])[0] == longest);
}

#[test]
fn buffers_that_hold_no_packet_go_back_unused() {
    let mut rig = Rig::mergeable(true);
    let driver = &mut rig.drivers[0];
    let readable = driver.buffer(&[0; 100]);
    let bad = [
        driver.offer(&[Descriptor::writable(0x8_0000, 11)]),
        driver.offer(&[readable]),
        driver.offer(&[Descriptor::writable(HOLE - 100, 200)]),
    ];
    let room = rig.room(2000);
    rig.hosts[0].send(&packet(100));
    rig.net.process_events().unwrap();
    let used = rig.drivers[0].used();
    let expected = bad.map(|head| (head, 0));
    assert_eq!(used[..3], expected);
    assert_eq!(used[3], (room.0, 100));
    assert_eq!(rig.counter("receive_malformed"), 2);
}

#[test]
fn a_lost_port_is_a_pulled_cable() {
    let mut rig = Rig::mergeable(true);
    rig.room(2000);
    rig.hosts.clear();
    rig.net.process_events().unwrap();
    assert!(!rig.net.pairs[0].watched);
    rig.net.process_queue(0).unwrap();
    assert!(!rig.net.pairs[0].watched);
}

#[test]
fn a_reset_forgets_the_guest_and_its_buffers() {
    let mut rig = Rig::mergeable(true);
    rig.room(2000);
    rig.net.process_events().unwrap();
    assert!(rig.net.pairs[0].watched);
    rig.net.reset();
    assert!(!rig.net.pairs[0].watched);
    rig.hosts[0].send(&packet(100));
    rig.net.process_events().unwrap();
    rig.net.process_queue(1).unwrap();
    assert_eq!(rig.drivers[0].used(), []);
}

#[test]
fn pairs_are_taken_into_use_when_the_driver_says_so() {
    let mut rig = Rig::new(2, u64::MAX);
    assert_eq!(rig.hosts[0].attached(), Some(true));
    assert_eq!(rig.hosts[1].attached(), Some(false));
    assert!(!rig.net.pairs[1].watched);
    let pairs = |count: u16| [4, 0, count.to_le_bytes()[0], count.to_le_bytes()[1]];
    assert_eq!(rig.command(&pairs(2)), 0);
    assert_eq!(rig.hosts[1].attached(), Some(true));
    assert!(rig.net.pairs[1].watched);
    for bad in [0, 3, 0x8000, u16::MAX] {
        assert_eq!(rig.command(&pairs(bad)), 1, "{bad}");
    }
    assert!(rig.net.pairs[1].watched);
    assert_eq!(rig.command(&pairs(1)), 0);
    assert_eq!(rig.hosts[1].attached(), Some(false));
    assert!(!rig.net.pairs[1].watched);
}

#[test]
fn a_driver_of_one_pair_finds_the_control_queue_behind_it() {
    let rig = Rig::new(2, !bit(VIRTIO_NET_F_MQ));
    assert_eq!(rig.net.control_index, 2);
    let rig = Rig::new(2, u64::MAX);
    assert_eq!(rig.net.control_index, 4);
}

#[test]
fn offloads_are_what_was_agreed_on_or_less() {
    let two = bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4);
    let mut rig = Rig::new(1, !GUEST_OFFLOADS | two);
    assert_eq!(rig.hosts[0].offloads(), Some(two));
    let offloads = |bits: u64| [&[5, 0][..], &bits.to_le_bytes()].concat();
    assert_eq!(rig.command(&offloads(bit(VIRTIO_NET_F_GUEST_CSUM))), 0);
    assert_eq!(rig.hosts[0].offloads(), Some(bit(VIRTIO_NET_F_GUEST_CSUM)));
    for bad in [u64::MAX, bit(VIRTIO_NET_F_GUEST_TSO4), bit(8) | two, bit(0)] {
        assert_eq!(rig.command(&offloads(bad)), 1, "{bad:#x}");
    }
    assert_eq!(rig.command(&offloads(0)), 0);
    assert_eq!(rig.hosts[0].offloads(), Some(0));
}

#[test]
fn other_commands_are_refused() {
    let mut rig = Rig::mergeable(true);
    let long = [4; 4000];
    for bad in [
        &[][..],
        &[4],
        &[4, 0],
        &[4, 0, 1],
        &[4, 0, 1, 0, 0],
        &[0, 0, 1],
        &[9, 9],
        &long,
    ] {
        assert_eq!(rig.command(bad), 1, "{bad:?}");
    }
    // MQ was not agreed on.
    assert_eq!(rig.command(&[4, 0, 1, 0]), 1);
    let driver = &mut rig.drivers[2];
    let silent = driver.buffer(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    driver.offer(&[silent]);
    rig.net.process_queue(2).unwrap();
    assert_eq!(rig.drivers[2].used().len(), 1);
}

#[test]
fn the_guest_is_told_who_it_is() {
    let rig = Rig::new(2, u64::MAX);
    assert_eq!(rig.net.config(), [2, 0, 0, 0, 0, 1, 1, 0, 2, 0, 0xdc, 0x05]);
    assert_eq!(rig.net.queue_sizes(), [256, 256, 256, 256, 64]);
}
