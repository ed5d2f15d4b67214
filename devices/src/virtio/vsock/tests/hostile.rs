//! What a guest may try, and that the next honest request is served all the same (F12 of the fault cases).

use std::io::Write;

use super::guest::{CID, Guest, Peer, read};
use crate::virtio::device::VirtioDevice;
use crate::virtio::mock::Descriptor;
use crate::virtio::vsock::limits::{MAX_GUEST_OPENED, MAX_RESETS};
use crate::virtio::vsock::packet::{HOST_CID, Header, NO_MORE_SEND, Operation};

/// An honest connection works.
fn check_service(guest: &mut Guest) {
    let (mut client, peer) = guest.open(99);
    guest.send(&peer.data(b"ping"), b"ping");
    assert_eq!(read(&mut client, 4), b"ping");
    client.write_all(b"pong").unwrap();
    guest.run();
    assert!(
        guest
            .receive()
            .iter()
            .any(|packet| packet.payload == b"pong")
    );
    guest.send(&peer.header(Operation::Reset), &[]);
    guest.run();
    guest.receive();
}

#[test]
fn forged_context_ids_are_dropped_without_a_word() {
    let mut guest = Guest::new();
    let honest = Peer::new(1, 2, 0).header(Operation::Request);
    let cases = [
        (0, HOST_CID),
        (1, HOST_CID),
        (HOST_CID, CID),
        (CID + 1, HOST_CID),
        (CID | 1 << 32, HOST_CID),
        (u64::MAX, HOST_CID),
        (CID, 0),
        (CID, 1),
        (CID, CID),
        (CID, HOST_CID | 1 << 32),
        (CID, u64::MAX),
    ];
    for (count, (src_cid, dst_cid)) in (1..).zip(cases) {
        let header = Header {
            src_cid,
            dst_cid,
            ..honest
        };
        guest.send(&header, &[]);
        guest.receive_none();
        assert_eq!(guest.counter("forged_packets"), count);
    }
    check_service(&mut guest);
}

#[test]
fn packets_for_no_connection_are_reset_but_resets_are_not() {
    let mut guest = Guest::new();
    for op in 0..=u16::from(u8::MAX) {
        let header = Header {
            op,
            ..Peer::new(1, 2, 0).header(Operation::Data)
        };
        guest.send(&header, &[]);
        if op == Operation::Reset.code() {
            guest.receive_none();
        } else {
            let reset = guest.receive_one(Operation::Reset);
            assert_eq!((reset.src_port, reset.dst_port), (2, 1));
        }
    }
    check_service(&mut guest);
}

#[test]
fn another_socket_type_is_reset_with_that_type() {
    let mut guest = Guest::new();
    for socket_type in [0, 2, 3, u16::MAX] {
        let header = Header {
            socket_type,
            ..Peer::new(1, 2, 0).header(Operation::Request)
        };
        guest.send(&header, &[]);
        assert_eq!(guest.receive_one(Operation::Reset).socket_type, socket_type);
    }
    check_service(&mut guest);
}

/// A packet that breaks the protocol.
type Breach = fn(&Peer) -> (Header, Vec<u8>);

#[test]
fn each_breach_of_the_protocol_resets_only_its_connection() {
    let breaches: [(&str, Breach); 6] = [
        ("request twice", |peer| {
            (peer.header(Operation::Request), Vec::new())
        }),
        ("response twice", |peer| {
            (peer.header(Operation::Response), Vec::new())
        }),
        ("unknown operation", |peer| {
            (
                Header {
                    op: 99,
                    ..peer.header(Operation::Data)
                },
                Vec::new(),
            )
        }),
        ("operation 0", |peer| {
            (
                Header {
                    op: 0,
                    ..peer.header(Operation::Data)
                },
                Vec::new(),
            )
        }),
        ("more promised than there is", |peer| {
            (
                Header {
                    len: 5,
                    ..peer.header(Operation::Data)
                },
                vec![1; 4],
            )
        }),
        ("length of 4 GiB", |peer| {
            (
                Header {
                    len: u32::MAX,
                    ..peer.header(Operation::Data)
                },
                vec![1; 4],
            )
        }),
    ];
    for (name, breach) in breaches {
        let mut guest = Guest::new();
        let (mut bystander, other) = guest.open(2);
        let (client, peer) = guest.open(1);
        let (header, payload) = breach(&peer);
        guest.send(&header, &payload);
        let reset = guest.receive_one(Operation::Reset);
        assert_eq!(reset.src_port, peer.host_port, "{name}");
        drop(client);
        guest.send(&other.data(b"on"), b"on");
        assert_eq!(read(&mut bystander, 2), b"on", "{name}");
        assert_eq!(guest.counter("connections"), 1, "{name}");
        check_service(&mut guest);
    }
}

#[test]
fn data_after_the_end_of_data_is_a_breach() {
    let mut guest = Guest::new();
    let (_client, peer) = guest.open(1);
    guest.send(&peer.shutdown(NO_MORE_SEND), &[]);
    guest.send(&peer.data(b"more"), b"more");
    guest.receive_one(Operation::Reset);
}

#[test]
fn a_guest_that_ignores_its_credit_is_cut_off_at_the_window() {
    let mut guest = Guest::new();
    let (_client, peer) = guest.open(1);
    let block = vec![7; 60_000];
    let mut told = 0;
    for count in 1_u32.. {
        guest.send(&peer.data(&block), &block);
        let received = guest.receive();
        if received
            .iter()
            .any(|packet| packet.operation() == Operation::Reset)
        {
            assert!(count * 60_000 > told + peer.window, "cut off too early");
            break;
        }
        told = received
            .iter()
            .fold(told, |told, packet| told.max(packet.header.fwd_cnt));
        assert!(
            count * 60_000 <= told + peer.window + 212_992,
            "never cut off"
        );
    }
    assert_eq!(guest.counter("connections"), 0);
    check_service(&mut guest);
}

#[test]
fn a_guest_with_a_huge_window_or_forged_acknowledgements_costs_nothing() {
    for (buf_alloc, fwd_cnt) in [
        (u32::MAX, 0),
        (u32::MAX, u32::MAX),
        (0, 1 << 31),
        (1 << 20, 9),
    ] {
        let mut guest = Guest::new();
        let (mut client, mut peer) = guest.open(1);
        peer.buf_alloc = buf_alloc;
        peer.fwd_cnt = fwd_cnt;
        client.set_nonblocking(true).unwrap();
        for _ in 0..50 {
            guest.send(&peer.header(Operation::CreditUpdate), &[]);
            while client.write(&[1; 4096]).is_ok() {}
            guest.run();
            guest.receive();
        }
        check_service(&mut guest);
    }
}

#[test]
fn a_flood_of_requests_is_held_to_the_limit() {
    let mut guest = Guest::new();
    let service = guest.listen(80);
    service.set_nonblocking(true).unwrap();
    let (mut accepted, mut responses, mut resets) = (Vec::new(), 0, 0);
    for port in 0..100_000 {
        guest.queue(&Peer::new(port, 80, 0).header(Operation::Request), &[]);
        // As many at once as there are transmit slots in the mock.
        if port % 10 == 9 {
            guest.device.process_queue(1).unwrap();
            guest.run();
            while let Ok((stream, _)) = service.accept() {
                accepted.push(stream);
            }
            for packet in guest.receive() {
                match packet.operation() {
                    Operation::Response => responses += 1,
                    Operation::Reset => resets += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(responses, MAX_GUEST_OPENED);
    assert_eq!(accepted.len(), MAX_GUEST_OPENED);
    assert_eq!(resets, 100_000 - MAX_GUEST_OPENED);
    assert_eq!(guest.counter("connections"), MAX_GUEST_OPENED as u64);
    // The host still gets through.
    check_service(&mut guest);
}

#[test]
fn half_open_connections_leave_nothing_behind() {
    let mut guest = Guest::new();
    let service = guest.listen(80);
    service.set_nonblocking(true).unwrap();
    for port in 0..20_000 {
        let peer = Peer::new(port, 80, 0);
        guest.queue(&peer.header(Operation::Request), &[]);
        guest.queue(&peer.header(Operation::Reset), &[]);
        guest.device.process_queue(1).unwrap();
        guest.run();
        drop(service.accept());
        guest.receive();
    }
    assert_eq!(guest.counter("connections"), 0);
    check_service(&mut guest);
}

#[test]
fn without_receive_buffers_the_guest_waits_and_the_host_holds_little() {
    let mut guest = Guest::starved();
    let total = MAX_RESETS + 100;
    for port in 0..u32::try_from(total).unwrap() {
        guest.queue(&Peer::new(port, 80, 0).header(Operation::Data), &[]);
        if port % 10 == 9 {
            guest.device.process_queue(1).unwrap();
            guest.run();
        }
    }
    // Taken: as many as can be answered.
    assert_eq!(guest.tx.used().len(), MAX_RESETS);
    guest.offer_buffers(64);
    let mut resets = 0;
    for _ in 0..20 {
        guest.run();
        resets += guest.receive().len();
    }
    assert_eq!(guest.tx.used().len(), 100);
    assert!(resets >= total - 15, "{resets}");
    check_service(&mut guest);
}

#[test]
fn receive_buffers_too_small_for_a_packet_are_given_back_empty() {
    let mut guest = Guest::starved();
    for len in [0_u32, 1, 43, 44] {
        let buffer = Descriptor::writable(0x9_0000, len);
        guest.rx.set_descriptor(200, buffer);
        guest.rx.make_available(200);
    }
    let client = guest.connect(1);
    guest.offer_buffers(64);
    guest.run();
    let used = guest.rx.used();
    let lengths: Vec<u32> = used.iter().map(|(_, len)| *len).collect();
    assert_eq!(
        lengths.iter().filter(|len| **len == 0).count(),
        used.len() - 1
    );
    assert!(lengths.contains(&44));
    drop(client);
}

#[test]
fn transmit_chains_that_are_no_packet_are_given_back() {
    let mut guest = Guest::new();
    for len in [1, 43] {
        guest.tx.offer(&[Descriptor::readable(0x9_0000, len)]);
    }
    guest.tx.offer(&[Descriptor::writable(0x9_0000, 100)]);
    guest.device.process_queue(1).unwrap();
    assert_eq!(guest.tx.used().len(), 3);
    guest.receive_none();
    check_service(&mut guest);
}

#[test]
fn a_header_in_pieces_is_still_a_header() {
    let mut guest = Guest::new();
    let (mut client, peer) = guest.open(1);
    let mut bytes = peer.data(b"abcdef").bytes().to_vec();
    bytes.extend(b"abcdef");
    guest.tx.write(0x9_0000, &bytes);
    let sizes = [1, 20, 22, 3, 4];
    let mut address = 0x9_0000;
    let chain: Vec<_> = sizes
        .iter()
        .map(|len| {
            let piece = Descriptor::readable(address, *len);
            address += u64::from(*len);
            piece
        })
        .collect();
    guest.tx.offer(&chain);
    guest.device.process_queue(1).unwrap();
    assert_eq!(read(&mut client, 6), b"abcdef");
}
