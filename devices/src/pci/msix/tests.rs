//! The MSI-X table against hostile drivers (SECURITY.md, F9).

use super::*;
use crate::irq::MsiRouter as _;
use crate::irq::mock::{RecordingRouter, VectorRecord, Vectors};

const VECTORS: u16 = 3;
const ON: u16 = ENABLE;

fn table() -> (Msix, Vectors) {
    let router = RecordingRouter::default();
    let msix = Msix::new(router.allocate(VECTORS).unwrap());
    (msix, router.vectors)
}

fn record(vectors: &Vectors, index: usize) -> VectorRecord {
    vectors.lock().unwrap()[index]
}

fn read(msix: &Msix, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0x77; len];
    msix.read_table(offset, &mut data);
    data
}

fn pending(msix: &Msix) -> u8 {
    let mut data = [0];
    msix.read_pending(0, &mut data);
    data[0]
}

/// Gives vector `index` a message and unmasks it.
fn open(msix: &Msix, index: u64) {
    let base = index * ENTRY_SIZE;
    msix.write_table(base, &0xfee0_1000_u64.to_le_bytes());
    msix.write_table(base + 8, &0x41_u32.to_le_bytes());
    msix.write_table(base + 12, &0_u32.to_le_bytes());
}

#[test]
fn an_open_vector_is_routed_and_raised() {
    let (msix, vectors) = table();
    msix.set_control(ON);
    open(&msix, 1);
    msix.trigger(1).unwrap();
    let record = record(&vectors, 1);
    let message = MsiMessage {
        address: 0xfee0_1000,
        data: 0x41,
    };
    assert_eq!((record.message, record.masked), (message, false));
    assert_eq!((record.triggered, record.lost), (1, 0));
}

#[test]
fn triggers_while_masked_are_delivered_once_by_the_unmask() {
    let (msix, vectors) = table();
    msix.set_control(ON);
    open(&msix, 2);
    let mask = |bit: u32| msix.write_table(2 * ENTRY_SIZE + 12, &bit.to_le_bytes());
    let mask_all = |on: bool| msix.set_control(if on { ON | MASK_ALL } else { ON });
    for (expected, one) in [(1, true), (2, false)] {
        let set = |masked: bool| {
            if one {
                mask(masked.into());
            } else {
                mask_all(masked);
            }
        };
        let (close, open) = (|| set(true), || set(false));
        close();
        msix.trigger(2).unwrap();
        msix.trigger(2).unwrap();
        assert_eq!(pending(&msix), 0b100);
        open();
        assert_eq!(pending(&msix), 0);
        assert_eq!(record(&vectors, 2).triggered, expected);
        open();
        assert_eq!(record(&vectors, 2).triggered, expected);
    }
    assert_eq!(record(&vectors, 2).lost, 0);
}

#[test]
fn without_msix_nothing_is_raised_or_kept() {
    let (msix, vectors) = table();
    open(&msix, 0);
    msix.trigger(0).unwrap();
    assert_eq!(pending(&msix), 0);
    msix.set_control(ON);
    assert_eq!(record(&vectors, 0).triggered, 0);
    msix.trigger(0).unwrap();
    assert_eq!(record(&vectors, 0).triggered, 1);
}

#[test]
fn vectors_that_do_not_exist_are_silent() {
    let (msix, vectors) = table();
    msix.set_control(ON);
    for index in [VECTORS, VECTORS + 1, 2048, 0xffff] {
        msix.trigger(index).unwrap();
    }
    assert!(
        vectors
            .lock()
            .unwrap()
            .iter()
            .all(|vector| vector.triggered + vector.lost == 0)
    );
    assert_eq!(pending(&msix), 0);
}

#[test]
fn only_aligned_words_and_pairs_reach_the_table() {
    let (msix, _) = table();
    let before = read(&msix, 0, 8);
    assert_eq!(before, [0; 8]);
    for (offset, len) in [
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 5),
        (0, 16),
        (2, 4),
        (4, 8),
        (12, 8),
        (0, 0),
    ] {
        msix.write_table(offset, &vec![0xa5; len]);
        assert_eq!(read(&msix, offset, len), vec![0xff; len], "{offset}+{len}");
    }
    assert_eq!(read(&msix, 0, 8), before);
    let end = u64::from(VECTORS) * ENTRY_SIZE;
    for offset in [end, end + 8, 0xff8, u64::MAX - 7] {
        msix.write_table(offset, &[0; 8]);
        assert_eq!(read(&msix, offset, 8), [0xff; 8], "{offset:#x}");
    }
}

#[test]
fn reserved_bits_of_vector_control_stay_zero() {
    let (msix, _) = table();
    assert_eq!(read(&msix, 12, 4), [1, 0, 0, 0]);
    msix.write_table(12, &[0xfe, 0xff, 0xff, 0xff]);
    assert_eq!(read(&msix, 12, 4), [0; 4]);
}

#[test]
fn pending_bits_can_be_read_at_any_size() {
    let (msix, _) = table();
    msix.set_control(ON);
    msix.trigger(1).unwrap();
    for len in [1, 2, 3, 4, 8, 16] {
        let mut data = vec![0xff; len];
        msix.read_pending(0, &mut data);
        assert_eq!(data[0], 0b10);
        assert!(data[1..].iter().all(|byte| *byte == 0));
    }
    let mut data = [0xff; 8];
    msix.read_pending(u64::MAX - 3, &mut data[..4]);
    assert_eq!(data[..4], [0; 4]);
}

#[test]
fn an_unmask_storm_raises_nothing() {
    let (msix, vectors) = table();
    msix.set_control(ON);
    for round in 0..10_000_u32 {
        msix.write_table(12, &(round % 2).to_le_bytes());
        msix.set_control(if round % 3 == 0 { ON | MASK_ALL } else { ON });
    }
    let record = record(&vectors, 0);
    assert_eq!((record.triggered, record.lost), (0, 0));
}
