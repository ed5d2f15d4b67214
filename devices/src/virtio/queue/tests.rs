//! Rings against hostile drivers (SECURITY.md, F1, F2, F3, F5, F6).

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;

use super::*;
use crate::virtio::mock::{Descriptor, Driver, END, HOLE, INDIRECT, NEXT, UPPER, WRITE};

const SIZE: u16 = 16;

/// Offers the chain that begins at `head`, then one good request. Says how the queue takes the first, and checks that, if the queue
/// survives it, the second is served.
fn outcome(driver: &mut Driver, head: u16) -> Result<Option<u16>, QueueError> {
    let mut queue = driver.queue();
    driver.make_available(head);
    driver.set_descriptor(SIZE - 1, Descriptor::writable(0x8_0000, 8));
    driver.make_available(SIZE - 1);
    let first = queue.pop()?;
    let first = first.map(|chain| chain.head());
    if first == Some(SIZE - 1) {
        // The bad one was passed over, and the driver has it back and knows.
        assert_eq!(driver.used(), [(head, 0)]);
        assert_eq!(driver.interrupt.count(), 1);
    }
    Ok(first)
}

fn entry(address: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor {
        address,
        len,
        flags,
        next,
    }
}

#[test]
fn loops_and_links_out_of_range_are_malformed() {
    let loops: [&[Descriptor]; 5] = [
        &[entry(0x8_0000, 8, NEXT, 0)],
        &[entry(0x8_0000, 8, NEXT, 1), entry(0x8_0000, 8, NEXT, 0)],
        &[entry(0x8_0000, 8, NEXT, SIZE)],
        &[entry(0x8_0000, 8, NEXT, u16::MAX)],
        &[entry(0x8_0000, 0, NEXT, 0)],
    ];
    for descriptors in loops {
        let mut driver = Driver::new(SIZE);
        for (index, descriptor) in (0..).zip(descriptors) {
            driver.set_descriptor(index, *descriptor);
        }
        let outcome = outcome(&mut driver, 0);
        assert!(
            matches!(outcome, Err(QueueError::Malformed { head: 0 })),
            "{descriptors:?}"
        );
    }
    for head in [SIZE, SIZE + 1, u16::MAX] {
        let mut driver = Driver::new(SIZE);
        assert!(matches!(
            outcome(&mut driver, head),
            Err(QueueError::Malformed { .. })
        ));
    }
}

#[test]
fn a_chain_as_long_as_the_queue_is_the_longest() {
    let mut driver = Driver::new(SIZE);
    let one = Descriptor::readable(0x8_0000, 1);
    driver.offer(&[one; SIZE as usize]);
    let mut queue = driver.queue();
    assert_eq!(queue.pop().unwrap().unwrap().readable().len(), 16);
    let long: Vec<_> = (1..=SIZE + 1)
        .map(|next| entry(0x8_0000, 1, if next > SIZE { 0 } else { NEXT }, next))
        .collect();
    let table = driver.table(&long);
    driver.offer(&[table]);
    assert!(matches!(queue.pop(), Err(QueueError::Malformed { .. })));
}

#[test]
fn buffers_outside_memory_cost_their_request_only() {
    for (address, len) in [
        (HOLE, 1),
        (HOLE - 1, 2),
        (HOLE - 1, u32::MAX),
        (UPPER - 1, 2),
        (END - 1, 2),
        (END, 1),
        (1 << 40, 1),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 7, 8),
        (0xfee0_0000, 4),
    ] {
        for flags in [0, WRITE] {
            let mut driver = Driver::new(SIZE);
            driver.set_descriptor(0, entry(address, len, flags, 0));
            let outcome = outcome(&mut driver, 0).unwrap();
            assert_eq!(outcome, Some(SIZE - 1), "{address:#x}+{len:#x}");
        }
    }
}

#[test]
fn readable_buffers_come_first() {
    let mut driver = Driver::new(SIZE);
    driver.set_descriptor(0, entry(0x8_0000, 8, WRITE | NEXT, 1));
    driver.set_descriptor(1, entry(0x8_0000, 8, 0, 0));
    assert_eq!(outcome(&mut driver, 0).unwrap(), Some(SIZE - 1));
}

#[test]
fn more_than_4_gib_is_malformed() {
    let mut driver = Driver::new(SIZE);
    driver.set_descriptor(0, entry(0x8_0000, 8, NEXT, 1));
    driver.set_descriptor(1, entry(0, 0, NEXT, 2));
    driver.set_descriptor(2, entry(0x8_0000, u32::MAX, 0, 0));
    assert!(matches!(
        outcome(&mut driver, 0),
        Err(QueueError::Malformed { .. })
    ));
}

#[test]
fn bad_indirect_tables_are_malformed() {
    let good = Descriptor::readable(0x8_0000, 8);
    type Make = fn(&mut Driver, Descriptor) -> Descriptor;
    let table: [(&str, Make); 9] = [
        ("empty", |_, table| Descriptor { len: 0, ..table }),
        ("not whole entries", |_, table| Descriptor {
            len: 24,
            ..table
        }),
        ("more entries than an index reaches", |_, table| {
            Descriptor {
                len: 65_537 * 16,
                ..table
            }
        }),
        ("with next", |_, table| Descriptor {
            flags: INDIRECT | NEXT,
            ..table
        }),
        ("in the hole", |_, table| Descriptor {
            address: HOLE,
            ..table
        }),
        ("into the hole", |_, table| Descriptor {
            address: HOLE - 8,
            ..table
        }),
        ("behind all addresses", |_, table| Descriptor {
            address: u64::MAX - 15,
            ..table
        }),
        ("indirect inside indirect", |driver, table| {
            driver.table(&[table])
        }),
        ("link out of the table", |driver, _| {
            driver.table(&[entry(0x8_0000, 8, NEXT, 1)])
        }),
    ];
    for (name, make) in table {
        let mut driver = Driver::new(SIZE);
        let sound = driver.table(&[good]);
        let bad = make(&mut driver, sound);
        driver.set_descriptor(0, bad);
        let outcome = outcome(&mut driver, 0);
        assert!(
            matches!(outcome, Err(QueueError::Malformed { .. })),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn indirect_tables_are_taken_only_if_negotiated() {
    let mut driver = Driver::new(SIZE);
    let inside = [
        entry(0x8_0000, 8, NEXT, 2),
        entry(0, 0, 0, 0),
        entry(0x8_1000, 4, WRITE, 0),
    ];
    let table = driver.table(&inside);
    let first = Descriptor::readable(0x8_2000, 2);
    driver.offer(&[first, table]);
    let mut queue = driver.queue();
    queue.set_features(1 << VIRTIO_RING_F_INDIRECT_DESC);
    let chain = queue.pop().unwrap().unwrap();
    assert_eq!((chain.readable_len(), chain.writable_len()), (10, 4));
    let mut queue = driver.queue();
    queue.set_features(0);
    assert!(matches!(queue.pop(), Err(QueueError::Malformed { .. })));
}

#[test]
fn available_index_may_not_jump_or_go_back() {
    for index in [SIZE + 1, 0x8000, u16::MAX] {
        let mut driver = Driver::new(SIZE);
        let mut queue = driver.queue();
        driver.set_available_index(index);
        for _ in 0..3 {
            assert!(matches!(queue.pop(), Err(QueueError::Available(_))));
        }
        assert!(driver.used().is_empty());
    }
    let mut driver = Driver::new(SIZE);
    let mut queue = driver.queue();
    let room = driver.room(8);
    driver.offer(&[room]);
    driver.offer(&[room]);
    assert!(queue.pop().unwrap().is_some());
    assert!(queue.pop().unwrap().is_some());
    driver.set_available_index(1);
    assert!(matches!(queue.pop(), Err(QueueError::Available(_))));
}

#[test]
fn the_same_head_twice_is_two_requests() {
    let mut driver = Driver::new(SIZE);
    let room = driver.room(8);
    let head = driver.offer(&[room]);
    driver.make_available(head);
    let mut queue = driver.queue();
    for _ in 0..2 {
        let chain = queue.pop().unwrap().unwrap();
        queue.complete(chain.head(), 1).unwrap();
    }
    assert!(queue.pop().unwrap().is_none());
    assert_eq!(driver.used(), [(head, 1), (head, 1)]);
}

#[test]
fn a_chain_is_what_it_was_when_it_was_taken() {
    let mut driver = Driver::new(SIZE);
    let data = driver.buffer(b"before");
    let room = driver.room(4);
    driver.offer(&[data, room]);
    let mut queue = driver.queue();
    let chain = queue.pop().unwrap().unwrap();
    driver.set_descriptor(0, entry(HOLE, u32::MAX, NEXT | WRITE, 0));
    driver.set_descriptor(1, entry(u64::MAX, u32::MAX, INDIRECT, 0));
    let mut read = [0; 8];
    assert_eq!(chain.read_at(0, &mut read).unwrap(), 6);
    assert_eq!(&read[..6], b"before");
    assert_eq!(chain.write_at(1, b"done").unwrap(), 3);
    assert_eq!(driver.read(room.address, 4), b"\0don");
    assert_eq!(chain.slices(chain.writable()).unwrap().len(), 1);
}

#[test]
fn buffers_can_be_read_and_written_from_any_offset() {
    let mut driver = Driver::new(SIZE);
    let parts = [
        driver.buffer(b"ab"),
        driver.buffer(b"cde"),
        driver.buffer(b"f"),
    ];
    driver.offer(&parts);
    let chain = driver.queue().pop().unwrap().unwrap();
    for offset in 0..8_usize {
        for len in 0..8 {
            let mut data = vec![0; len];
            let count = chain.read_at(offset as u64, &mut data).unwrap();
            let expected = b"abcdef".get(offset..).unwrap_or_default();
            let expected = &expected[..expected.len().min(len)];
            assert_eq!(data.get(..count).unwrap(), expected);
            let part = Chain::part(chain.readable(), offset as u64, len as u64);
            let total: u32 = part.iter().map(|buffer| buffer.len).sum();
            assert_eq!(total as usize, expected.len());
        }
    }
    let mut data = [0; 1];
    assert_eq!(chain.read_at(u64::MAX, &mut data).unwrap(), 0);
}

#[test]
fn interrupts_come_only_when_wanted() {
    let mut driver = Driver::new(SIZE);
    let mut queue = driver.queue();
    queue.notify().unwrap();
    assert_eq!(driver.interrupt.count(), 1);
    let flag = u16::try_from(VRING_AVAIL_F_NO_INTERRUPT).unwrap();
    driver.set_available_flags(flag);
    queue.notify().unwrap();
    assert_eq!(driver.interrupt.count(), 1);
    // With the event index the flag means nothing, and used_event (0) asks for the first completion only.
    queue.set_features(1 << VIRTIO_RING_F_EVENT_IDX);
    let room = driver.room(8);
    for expected in [2, 2] {
        let head = driver.offer(&[room]);
        queue.complete(head, 0).unwrap();
        queue.notify().unwrap();
        assert_eq!(driver.interrupt.count(), expected);
    }
}

#[test]
fn a_ring_that_never_runs_dry_yields() {
    let mut driver = Driver::new(SIZE);
    let mut queue = driver.queue();
    let room = driver.room(8);
    driver.offer(&[room]);
    let mut taken = 0;
    while let Some(chain) = queue.pop().unwrap() {
        queue.complete(chain.head(), 0).unwrap();
        driver.offer(&[room]);
        taken += 1;
        assert!(taken <= MAX_BURST, "no end");
    }
    assert_eq!(taken, MAX_BURST);
    assert_eq!(driver.kick.read().unwrap(), 1);
    assert!(queue.pop().unwrap().is_some());
}

#[test]
fn rings_that_leave_memory_are_errors() {
    let driver = Driver::new(SIZE);
    let mut queue = driver.queue();
    // Hot-unplug, or a driver that had its ring at the very end.
    let small = vm_memory::GuestMemoryMmap::from_ranges(&[(GuestAddress(UPPER), 0x1000)]);
    driver.memory.lock().unwrap().replace(small.unwrap());
    assert!(matches!(queue.pop(), Err(QueueError::Available(_))));
    assert!(matches!(queue.complete(0, 0), Err(QueueError::Used(_))));
    assert!(matches!(queue.notify(), Err(QueueError::Used(_))));
    assert_eq!(driver.interrupt.count(), 0);
}
