//! How connections come to be.

use std::io::Write;

use super::guest::{Guest, Peer, at_end, read};
use crate::virtio::device::VirtioDevice;
use crate::virtio::vsock::limits::{MAX_HANDSHAKES, TICK};
use crate::virtio::vsock::packet::Operation;

#[test]
fn a_client_reaches_the_guest_and_bytes_pass_both_ways() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1024);
    client.write_all(b"ping").unwrap();
    guest.run();
    let received = guest.receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].operation(), Operation::Data);
    assert_eq!(received[0].payload, b"ping");
    guest.send(&peer.data(b"pong"), b"pong");
    assert_eq!(read(&mut client, 4), b"pong");
    guest.receive_none();
}

#[test]
fn the_guest_reaches_a_service_of_the_host() {
    let mut guest = Guest::new();
    let (mut stream, peer) = guest.open_to_host(2222);
    guest.send(&peer.data(b"ping"), b"ping");
    assert_eq!(read(&mut stream, 4), b"ping");
    stream.write_all(b"pong").unwrap();
    guest.run();
    assert_eq!(guest.receive()[0].payload, b"pong");
}

#[test]
fn a_service_that_is_not_there_is_a_reset() {
    let mut guest = Guest::new();
    let peer = Peer::new(5000, 2222, 0);
    guest.send(&peer.header(Operation::Request), &[]);
    let reset = guest.receive_one(Operation::Reset);
    assert_eq!((reset.src_port, reset.dst_port), (2222, 5000));
    assert_eq!(guest.counter("connections"), 0);
}

#[test]
fn a_port_of_the_guest_that_nobody_serves_closes_the_client() {
    let mut guest = Guest::new();
    let mut client = guest.connect(77);
    let request = guest.receive_one(Operation::Request);
    let peer = Peer::new(77, request.src_port, 0);
    guest.send(&peer.header(Operation::Reset), &[]);
    assert!(at_end(&mut client));
    guest.receive_none();
    assert_eq!(guest.counter("connections"), 0);
}

#[test]
fn what_follows_the_handshake_is_not_lost() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 9\nhello").unwrap();
    guest.run();
    let request = guest.receive_one(Operation::Request);
    let peer = Peer::new(9, request.src_port, request.buf_alloc);
    guest.send(&peer.header(Operation::Response), &[]);
    assert_eq!(guest.receive()[0].payload, b"hello");
}

#[test]
fn a_client_that_says_something_else_is_sent_away() {
    let mut guest = Guest::new();
    for line in [&b"GET / HTTP/1.1\n"[..], &[b'x'; 64], b"CONNECT 1x\n"] {
        let mut client = guest.client();
        client.write_all(line).unwrap();
        guest.run();
        guest.receive_none();
        // Closing with unread bytes is a reset for the client.
        assert!(client.write_all(b"more").is_err());
    }
    assert_eq!(guest.counter("connections_opened"), 0);
}

#[test]
fn clients_wait_for_the_driver_and_for_a_place() {
    let mut guest = Guest::new();
    let silent: Vec<_> = (0..MAX_HANDSHAKES).map(|_| guest.client()).collect();
    guest.run();
    let mut late = guest.connect(5);
    guest.receive_none();
    drop(silent);
    guest.run();
    assert_eq!(guest.receive_one(Operation::Request).dst_port, 5);

    guest.reset();
    assert!(at_end(&mut late));
    let mut early = guest.client();
    early.write_all(b"CONNECT 6\n").unwrap();
    guest.activate();
    guest.offer_buffers(64);
    assert_eq!(guest.receive_one(Operation::Request).dst_port, 6);
}

#[test]
fn who_waits_in_vain_is_sent_away() {
    let mut guest = Guest::new();
    let mut silent = guest.client();
    let mut unanswered = guest.connect(7);
    let request = guest.receive_one(Operation::Request);
    let mut ticks = 0;
    while !at_end(&mut silent) || !at_end(&mut unanswered) {
        assert!(ticks < 8, "nobody is sent away");
        std::thread::sleep(TICK);
        ticks += 1;
        guest.run();
    }
    let reset = guest.receive_one(Operation::Reset);
    assert_eq!(reset.src_port, request.src_port);
    assert_eq!(guest.counter("connections"), 0);
    // Nobody waits: no timer fires any more.
    std::thread::sleep(TICK + TICK / 2);
    let before = guest.device.counters();
    guest.run();
    assert_eq!(before, guest.device.counters());
}
