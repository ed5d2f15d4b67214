//! How connections end: each direction on its own, and all at once.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::guest::{Guest, Peer, at_end, read};
use crate::virtio::vsock::packet::{NO_MORE_RECEIVE, NO_MORE_SEND, Operation};

const BOTH: u32 = NO_MORE_RECEIVE | NO_MORE_SEND;

#[test]
fn the_host_may_stop_sending_and_go_on_reading() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    guest.run();
    let received = guest.receive();
    assert_eq!(received[0].payload, b"last");
    assert_eq!(received[1].operation(), Operation::Shutdown);
    assert_eq!(received[1].header.flags, NO_MORE_SEND);
    guest.send(&peer.data(b"answer"), b"answer");
    assert_eq!(read(&mut client, 6), b"answer");
    guest.send(&peer.shutdown(BOTH), &[]);
    guest.receive_one(Operation::Reset);
    assert!(at_end(&mut client));
    assert_eq!(guest.counter("connections"), 0);
}

#[test]
fn the_guest_may_stop_sending_and_go_on_reading() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    guest.send(&peer.data(b"last"), b"last");
    guest.send(&peer.shutdown(NO_MORE_SEND), &[]);
    assert_eq!(read(&mut client, 4), b"last");
    assert!(at_end(&mut client));
    client.write_all(b"answer").unwrap();
    guest.run();
    assert_eq!(guest.receive()[0].payload, b"answer");
    drop(client);
    let shutdown = guest.receive_one_last();
    assert_eq!(shutdown.flags, BOTH);
    assert_eq!(guest.counter("connections"), 0);
}

#[test]
fn the_guest_may_stop_reading_and_go_on_sending() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    guest.send(&peer.shutdown(NO_MORE_RECEIVE), &[]);
    assert!(client.write_all(b"lost").is_err());
    guest.send(&peer.data(b"on"), b"on");
    assert_eq!(read(&mut client, 2), b"on");
    guest.receive_none();
    guest.send(&peer.shutdown(NO_MORE_SEND), &[]);
    guest.receive_one(Operation::Reset);
    assert!(at_end(&mut client));
}

#[test]
fn the_host_may_stop_reading_and_go_on_sending() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    client.shutdown(Shutdown::Read).unwrap();
    guest.send(&peer.data(b"lost"), b"lost");
    let shutdown = guest.receive_one(Operation::Shutdown);
    assert_eq!(shutdown.flags, NO_MORE_RECEIVE);
    assert_eq!(shutdown.fwd_cnt, 4, "what is dropped is not held");
    client.write_all(b"on").unwrap();
    guest.run();
    assert_eq!(guest.receive()[0].payload, b"on");
    drop(client);
    assert_eq!(guest.receive_one_last().flags, BOTH);
}

#[test]
fn a_client_that_closes_ends_the_connection() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    client.write_all(b"last").unwrap();
    drop(client);
    guest.run();
    let received = guest.receive();
    assert_eq!(received[0].payload, b"last");
    assert_eq!(received.last().unwrap().header.flags, BOTH);
    assert_eq!(guest.counter("connections"), 0);
    // The guest closes in its own time.
    guest.send(&peer.header(Operation::Reset), &[]);
    guest.receive_none();
}

#[test]
fn a_client_that_leaves_before_the_answer_resets_the_request() {
    let mut guest = Guest::new();
    let client = guest.connect(1);
    let request = guest.receive_one(Operation::Request);
    drop(client);
    let reset = guest.receive_one(Operation::Reset);
    assert_eq!(reset.src_port, request.src_port);
    assert_eq!(guest.counter("connections"), 0);
}

/// A connection whose reader on the host stands still, with as much in flight as the guest may send.
fn stalled(guest: &mut Guest) -> (UnixStream, Peer, usize) {
    let (client, peer) = guest.open(1);
    let block = vec![7; 4096];
    let (mut sent, mut told) = (0, 0);
    while sent - told + 4096 <= peer.window {
        guest.send(&peer.data(&block), &block);
        sent += 4096;
        for packet in guest.receive() {
            told = packet.header.fwd_cnt;
        }
    }
    (client, peer, sent as usize)
}

#[test]
fn what_the_guest_sent_before_it_closed_reaches_a_slow_reader() {
    for reset_too in [false, true] {
        let mut guest = Guest::new();
        let (mut client, peer, sent) = stalled(&mut guest);
        guest.send(&peer.shutdown(BOTH), &[]);
        guest.receive_none();
        if reset_too {
            // It has waited long enough for the answer.
            guest.send(&peer.header(Operation::Reset), &[]);
            guest.receive_none();
        }
        let mut left = sent;
        while left > 0 {
            let part = left.min(10_000);
            assert!(read(&mut client, part).iter().all(|byte| *byte == 7));
            left -= part;
            guest.run();
        }
        assert!(at_end(&mut client));
        if reset_too {
            guest.receive_none();
        } else {
            guest.receive_one(Operation::Reset);
        }
        assert_eq!(guest.counter("connections"), 0);
    }
}

#[test]
fn a_reset_without_a_close_drops_everything() {
    let mut guest = Guest::new();
    let (_client, peer, _) = stalled(&mut guest);
    guest.send(&peer.header(Operation::Reset), &[]);
    guest.receive_none();
    assert_eq!(guest.counter("connections"), 0);
}

impl Guest {
    /// The last of the packets the device sends when a client closes: it may first tell of one direction.
    fn receive_one_last(&mut self) -> crate::virtio::vsock::packet::Header {
        self.run();
        let received = self.receive();
        let last = received.last().unwrap();
        assert_eq!(last.operation(), Operation::Shutdown);
        last.header
    }
}
