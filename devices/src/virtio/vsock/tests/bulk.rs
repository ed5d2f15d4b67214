//! Much data, whole and in order, with both sides at times too slow.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::guest::{Guest, Peer};
use crate::virtio::vsock::packet::Operation;
use crate::virtio::vsock::random::Random;

const TOTAL: u64 = 100 << 20;

/// A stream of bytes in which every part differs from those near it.
struct Pattern {
    block: Vec<u8>,
}

impl Pattern {
    fn new() -> Self {
        let mut block = vec![0; 65_521];
        Random::new(3).fill(&mut block);
        Self { block }
    }

    fn at(&self, offset: u64, len: u64) -> &[u8] {
        let start = usize::try_from(offset % self.block.len() as u64).unwrap();
        let len = usize::try_from(len).unwrap().min(self.block.len() - start);
        &self.block[start..start + len]
    }

    fn check(&self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.at(offset, bytes.len() as u64);
            let (part, rest) = bytes.split_at(expected.len());
            assert!(part == expected, "bytes at {offset} differ");
            offset += part.len() as u64;
            bytes = rest;
        }
    }
}

/// Both ends of a connection that carries the pattern both ways.
struct Transfer {
    pattern: Pattern,
    peer: Peer,
    client: UnixStream,
    guest_sent: u64,
    guest_told: u64,
    guest_received: u64,
    client_sent: u64,
    client_received: u64,
}

impl Transfer {
    fn guest_sends(&mut self, guest: &mut Guest) {
        let room = u64::from(self.peer.window) - (self.guest_sent - self.guest_told);
        let len = room.min(TOTAL - self.guest_sent).min(64 << 10);
        if len > 0 {
            let payload = self.pattern.at(self.guest_sent, len);
            guest.send(&self.peer.data(payload), payload);
            self.guest_sent += payload.len() as u64;
        }
    }

    fn guest_receives(&mut self, guest: &mut Guest) {
        for packet in guest.receive() {
            let behind = u64::from(packet.header.fwd_cnt.wrapping_sub(low(self.guest_told)));
            self.guest_told += behind;
            assert!(self.guest_told <= self.guest_sent);
            match packet.operation() {
                Operation::Data => {
                    self.pattern.check(self.guest_received, &packet.payload);
                    self.guest_received += packet.payload.len() as u64;
                    let unread = self.guest_received - u64::from(self.peer.fwd_cnt);
                    assert!(unread <= self.peer.buf_alloc.into(), "credit overrun");
                }
                Operation::CreditUpdate | Operation::CreditRequest => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn guest_reads(&mut self, guest: &mut Guest) {
        let unread = self.guest_received - u64::from(self.peer.fwd_cnt);
        if unread > u64::from(self.peer.buf_alloc / 2) {
            self.peer.fwd_cnt = low(self.guest_received);
            guest.send(&self.peer.header(Operation::CreditUpdate), &[]);
        }
    }

    fn client_writes(&mut self) {
        while self.client_sent < TOTAL {
            let left = TOTAL - self.client_sent;
            match self.client.write(self.pattern.at(self.client_sent, left)) {
                Ok(count) => self.client_sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn client_reads(&mut self) {
        let mut bytes = vec![0; 128 << 10];
        loop {
            match self.client.read(&mut bytes) {
                Ok(count) => {
                    self.pattern.check(self.client_received, &bytes[..count]);
                    self.client_received += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn done(&self) -> bool {
        self.guest_received == TOTAL && self.client_received == TOTAL
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap()
}

#[test]
fn a_hundred_megabytes_each_way_at_once_arrive_whole() {
    let mut guest = Guest::new();
    let (client, peer) = guest.open(1);
    client.set_nonblocking(true).unwrap();
    let mut transfer = Transfer {
        pattern: Pattern::new(),
        peer,
        client,
        guest_sent: 0,
        guest_told: 0,
        guest_received: 0,
        client_sent: 0,
        client_received: 0,
    };
    let mut random = Random::new(11);
    let mut idle = 0;
    while !transfer.done() {
        let before = transfer.guest_received + transfer.client_received;
        // Any of the four stands still at times.
        let slow = random.below(16);
        if slow & 1 == 0 {
            transfer.client_writes();
        }
        if slow & 2 == 0 {
            transfer.guest_sends(&mut guest);
        }
        guest.run();
        if slow & 4 == 0 {
            transfer.client_reads();
        }
        if slow & 8 == 0 {
            transfer.guest_receives(&mut guest);
            transfer.guest_reads(&mut guest);
        }
        let after = transfer.guest_received + transfer.client_received;
        idle = if after == before { idle + 1 } else { 0 };
        assert!(idle < 1000, "stuck at {after}");
    }
    assert_eq!(guest.counter("bytes_from_guest"), TOTAL);
    assert_eq!(guest.counter("bytes_to_guest"), TOTAL);
}
