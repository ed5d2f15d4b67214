//! The block device against hostile and sound requests (SECURITY.md, F11).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::virtio::mock::{Descriptor, Driver, HOLE, activate};

const DISK: usize = 64 * 1024;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;
/// What the status byte is before the device writes it.
const UNTOUCHED: u8 = 0xee;

struct Rig {
    path: PathBuf,
    driver: Driver,
    blk: Blk,
}

impl Rig {
    fn new(name: &str, read_only: bool) -> Self {
        let path = std::env::temp_dir().join(format!("husk-blk-{}-{name}", std::process::id()));
        fs::write(&path, content()).unwrap();
        let file = OpenOptions::new().read(true).write(!read_only).open(&path);
        let backend = Backend::new(file.unwrap(), read_only, false).unwrap();
        let mut blk = Blk::new(backend, "a serial number that is too long");
        let driver = Driver::new(16);
        activate(&mut blk, &[&driver]);
        Self { path, driver, blk }
    }

    fn header(&mut self, kind: u32, sector: u64) -> Descriptor {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.driver.buffer(&header)
    }

    /// Issues a request. Returns its status and the length the device says it wrote.
    fn request(&mut self, kind: u32, sector: u64, data: &[Descriptor]) -> (u8, u32) {
        let header = self.header(kind, sector);
        let status = self.driver.room(1);
        self.driver.write(status.address, &[UNTOUCHED]);
        let chain = [&[header], data, &[status]].concat();
        let head = self.driver.offer(&chain);
        self.blk.process_queue(0).unwrap();
        let used = self.driver.used();
        let [(completed, written)] = used[..] else {
            panic!("one request, completed {used:?}");
        };
        assert_eq!(completed, head);
        (self.driver.read(status.address, 1)[0], written)
    }

    fn range(&mut self, sector: u64, count: u32, flags: u32) -> Descriptor {
        let mut range = sector.to_le_bytes().to_vec();
        range.extend(count.to_le_bytes());
        range.extend(flags.to_le_bytes());
        self.driver.buffer(&range)
    }

    fn disk(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}

fn content() -> Vec<u8> {
    (0..DISK)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

#[test]
fn reads_and_writes_reach_the_image() {
    let mut rig = Rig::new("rw", false);
    let (a, b) = (rig.driver.room(512), rig.driver.room(1024));
    assert_eq!(rig.request(IN, 3, &[a, b]), (OK, 1537));
    assert_eq!(rig.driver.read(a.address, 512), content()[1536..2048]);
    assert_eq!(rig.driver.read(b.address, 1024), content()[2048..3072]);
    let data = rig.driver.buffer(&[0xab; 1024]);
    assert_eq!(rig.request(OUT, 126, &[data]), (OK, 1));
    assert_eq!(rig.disk()[126 * 512..], [0xab; 1024]);
    assert_eq!(rig.disk()[..126 * 512], content()[..126 * 512]);
    assert_eq!(rig.request(FLUSH, 0, &[]), (OK, 1));
}

#[test]
fn data_may_share_descriptors_with_header_and_status() {
    let mut rig = Rig::new("merged", false);
    let mut bytes = OUT.to_le_bytes().to_vec();
    bytes.extend([0; 12]);
    bytes.extend([0xcd; 512]);
    let merged = rig.driver.buffer(&bytes);
    let status = rig.driver.room(1);
    rig.driver.offer(&[merged, status]);
    let header = rig.header(IN, 0);
    let merged = rig.driver.room(513);
    rig.driver.offer(&[header, merged]);
    rig.blk.process_queue(0).unwrap();
    assert_eq!(rig.driver.used().len(), 2);
    let read = rig.driver.read(merged.address, 513);
    assert_eq!(read, [&[0xcd; 512][..], &[OK]].concat());
}

#[test]
fn requests_outside_the_disk_or_not_of_whole_sectors_fail() {
    let mut rig = Rig::new("range", false);
    let sectors = (DISK / 512) as u64;
    for (sector, len) in [
        (sectors, 512),
        (sectors - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (u64::MAX / 512 + 1, 512),
        (1 << 55, 512),
        (0, 1),
        (0, 511),
        (0, 513),
    ] {
        for kind in [IN, OUT] {
            let data = match kind {
                IN => Descriptor::writable(0x8_0000, len),
                _ => Descriptor::readable(0x8_0000, len),
            };
            let (status, _) = rig.request(kind, sector, &[data]);
            assert_eq!(status, IOERR, "type {kind}, {len} bytes at {sector:#x}");
        }
    }
    assert_eq!(rig.disk(), content());
    let data = rig.driver.room(512);
    assert_eq!(rig.request(IN, sectors - 1, &[data]), (OK, 513));
}

#[test]
fn unknown_types_are_not_supported() {
    let mut rig = Rig::new("types", false);
    for kind in [2, 3, 5, 9, 14, 15, 0x8000_0000, u32::MAX] {
        assert_eq!(rig.request(kind, 0, &[]).0, UNSUPP, "type {kind}");
    }
}

#[test]
fn requests_without_header_or_status_are_given_back() {
    let mut rig = Rig::new("shape", false);
    let short = rig.driver.buffer(&[0; 15]);
    let status = rig.driver.room(1);
    let header = rig.header(OUT, 0);
    let data = rig.driver.buffer(&[0xab; 512]);
    let heads = [
        rig.driver.offer(&[short, status]),
        rig.driver.offer(&[header, data]),
        rig.driver.offer(&[status]),
        rig.driver
            .offer(&[header, data, Descriptor::writable(HOLE, 1)]),
    ];
    rig.blk.process_queue(0).unwrap();
    assert_eq!(rig.driver.used(), heads.map(|head| (head, 0)));
    assert_eq!(rig.disk(), content());
    assert_eq!(rig.request(FLUSH, 0, &[]), (OK, 1));
}

#[test]
fn a_read_only_disk_never_changes() {
    let mut rig = Rig::new("ro", true);
    assert_eq!(
        rig.blk.features() & 1 << VIRTIO_BLK_F_RO,
        1 << VIRTIO_BLK_F_RO
    );
    let data = rig.driver.buffer(&[0xab; 512]);
    assert_eq!(rig.request(OUT, 0, &[data]).0, IOERR);
    for kind in [DISCARD, ZEROES] {
        let range = rig.range(0, 8, 0);
        assert_eq!(rig.request(kind, 0, &[range]).0, IOERR);
    }
    assert_eq!(rig.request(FLUSH, 0, &[]), (OK, 1));
    let room = rig.driver.room(512);
    assert_eq!(rig.request(IN, 0, &[room]), (OK, 513));
    assert_eq!(rig.disk(), content());
}

#[test]
fn zeroes_and_discards_stay_in_their_range() {
    let mut rig = Rig::new("zeroes", false);
    for flags in [0, 1] {
        let range = rig.range(8, 8, flags);
        assert_eq!(rig.request(ZEROES, 0, &[range]), (OK, 1));
        let disk = rig.disk();
        assert_eq!(disk[4096..8192], [0; 4096]);
        assert_eq!(disk[..4096], content()[..4096]);
        assert_eq!(disk[8192..], content()[8192..]);
    }
    let range = rig.range(0, 128, 0);
    assert_eq!(rig.request(DISCARD, 0, &[range]), (OK, 1));
    assert_eq!(rig.disk().len(), DISK);
}

#[test]
fn bad_ranges_change_nothing() {
    let mut rig = Rig::new("ranges", false);
    let table = [
        (DISCARD, 0, 129, 0, IOERR),
        (DISCARD, 128, 1, 0, IOERR),
        (DISCARD, u64::MAX, 1, 0, IOERR),
        (DISCARD, 0, 0, 0, IOERR),
        (DISCARD, 0, u32::MAX, 0, IOERR),
        (DISCARD, 0, 8, 1, UNSUPP),
        (ZEROES, 0, 8, 2, UNSUPP),
        (ZEROES, 0, 8, u32::MAX, UNSUPP),
        (ZEROES, 0, MAX_ZEROES_SECTORS + 1, 0, IOERR),
    ];
    for (kind, sector, count, flags, expected) in table {
        let good = rig.range(0, 8, 0);
        let bad = rig.range(sector, count, flags);
        let (status, _) = rig.request(kind, 0, &[good, bad]);
        assert_eq!(status, expected, "{kind} {sector:#x} {count} {flags}");
    }
    for len in [0, 1, 15, 17, 16 * (MAX_SEGMENTS + 1)] {
        let data = rig.driver.buffer(&vec![0; len as usize]);
        let (status, _) = rig.request(ZEROES, 0, &[data]);
        assert_eq!(status, IOERR, "{len} bytes of ranges");
    }
    assert_eq!(rig.disk(), content());
}

#[test]
fn the_serial_number_is_twenty_bytes() {
    let mut rig = Rig::new("serial", false);
    let room = rig.driver.room(20);
    assert_eq!(rig.request(GET_ID, 0, &[room]), (OK, 21));
    assert_eq!(rig.driver.read(room.address, 20), b"a serial number that");
    let small = rig.driver.room(19);
    assert_eq!(rig.request(GET_ID, 0, &[small]).0, IOERR);
}

#[test]
fn a_truncated_image_is_an_error_of_the_request() {
    let mut rig = Rig::new("truncated", false);
    File::options()
        .write(true)
        .open(&rig.path)
        .unwrap()
        .set_len(1024)
        .unwrap();
    let room = rig.driver.room(1024);
    assert_eq!(rig.request(IN, 1, &[room]).0, IOERR);
    assert_eq!(rig.request(IN, 0, &[room]), (OK, 1025));
}

#[test]
fn the_configuration_says_what_holds() {
    let rig = Rig::new("config", false);
    let config = rig.blk.config();
    assert_eq!(config.len(), 60);
    let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4)), (128, 0));
    assert_eq!(word(12), u32::from(QUEUE_SIZE) - 2);
    assert_eq!(word(20), 512);
    assert_eq!((word(36), word(40), word(44)), (MAX_DISCARD_SECTORS, 16, 1));
    assert_eq!((word(48), word(52), word(56)), (MAX_ZEROES_SECTORS, 16, 1));
}

#[test]
fn only_files_and_block_devices_are_disks() {
    let device = File::open("/dev/null").unwrap();
    assert!(matches!(
        Backend::new(device, true, false),
        Err(BackendError::Kind)
    ));
    let directory = File::open("/").unwrap();
    assert!(matches!(
        Backend::new(directory, true, false),
        Err(BackendError::Kind)
    ));
    let path = std::env::temp_dir().join(format!("husk-blk-{}-empty", std::process::id()));
    let empty = File::create(&path).unwrap();
    let outcome = Backend::new(empty, false, false);
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        outcome,
        Err(BackendError::TooSmall { bytes: 0, .. })
    ));
}

#[test]
fn direct_io_takes_buffers_that_are_not_aligned() {
    let mut rig = Rig::new("direct", false);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&rig.path);
    // tmpfs before Linux 6.6 has no direct I/O: there is nothing to try then.
    let Ok(file) = file else { return };
    rig.blk = Blk::new(Backend::new(file, false, true).unwrap(), "");
    activate(&mut rig.blk, &[&rig.driver]);
    let block = rig.blk.backend.block();
    assert!(block >= 512);
    let written: Vec<u8> = (0..2 * block)
        .map(|at| at.to_le_bytes()[0] ^ 0x5a)
        .collect();
    rig.driver.write(0x8_0008, &written);

    let parts = [
        Descriptor::readable(0x8_0008, 100),
        Descriptor::readable(0x8_0008 + 100, 2 * block - 100),
    ];
    assert_eq!(rig.request(OUT, 0, &parts), (OK, 1));
    assert_eq!(rig.disk()[..written.len()], written);
    let room = Descriptor::writable(0x9_0001, 2 * block);
    assert_eq!(rig.request(IN, 0, &[room]), (OK, 2 * block + 1));
    assert_eq!(rig.driver.read(0x9_0001, written.len()), written);
}
