//! Hostile kernel images (SECURITY.md, F23): each is refused with a reason, none is loaded.

use std::io::Write;

use super::*;

const RAM_END: u64 = 256 << 20;
const LOAD: u64 = 16 << 20;

/// A file in memory.
fn file(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(file);
    file.write_all(bytes).unwrap();
    file
}

fn parse(bytes: &[u8]) -> Result<KernelImage, ImageError> {
    KernelImage::parse(&file(bytes), bytes.len() as u64, RAM_END)
}

fn refused(bytes: &[u8]) -> String {
    parse(bytes).unwrap_err().to_string()
}

/// One program header: type, offset, physical address, size in the file, size in memory.
#[derive(Clone, Copy)]
struct Program(u32, u64, u64, u64, u64);

const TEXT: Program = Program(1, 0x1000, LOAD, 0x100, 0x2000);
const NOTES: Program = Program(4, 0x1200, 0, 24, 24);

fn elf(entry: u64, programs: &[Program]) -> Vec<u8> {
    let mut image = vec![0; 0x2000];
    image[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    image[18..20].copy_from_slice(&62_u16.to_le_bytes());
    image[24..32].copy_from_slice(&entry.to_le_bytes());
    image[32..40].copy_from_slice(&64_u64.to_le_bytes());
    image[54..56].copy_from_slice(&56_u16.to_le_bytes());
    image[56..58].copy_from_slice(&u16::try_from(programs.len()).unwrap().to_le_bytes());
    for (at, Program(kind, offset, address, len, memory)) in (64..).step_by(56).zip(programs) {
        image[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        for (field, value) in [(8, offset), (24, address), (32, len), (40, memory)] {
            image[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    image
}

/// The Xen note that names the PVH entry.
fn with_note(mut image: Vec<u8>, entry: u64) -> Vec<u8> {
    let note = [4_u32, 8, 18, u32::from_le_bytes(*b"Xen\0")];
    let note: Vec<u8> = note.iter().flat_map(|word| word.to_le_bytes()).collect();
    image[0x1200..0x1210].copy_from_slice(&note);
    image[0x1210..0x1218].copy_from_slice(&entry.to_le_bytes());
    image
}

#[test]
fn an_elf_with_the_note_starts_by_pvh_and_without_it_by_the_64_bit_protocol() {
    let image = parse(&with_note(elf(LOAD, &[TEXT, NOTES]), LOAD + 0x10)).unwrap();
    assert_eq!(image.protocol, Protocol::Pvh { entry: LOAD + 0x10 });
    assert_eq!((image.segments.len(), image.end), (1, LOAD + 0x2000));
    let image = parse(&elf(LOAD, &[TEXT])).unwrap();
    let protocol = Protocol::Linux64 {
        entry: LOAD,
        header: None,
    };
    assert_eq!(image.protocol, protocol);
}

#[test]
fn impossible_elf_files_are_refused() {
    let wide = Program(1, 0x1000, LOAD, 0x100, u64::MAX);
    let over = Program(1, 0x1000, LOAD + 0x1000, 0x100, 0x100);
    let beyond = Program(1, 0x1f01, LOAD, 0x100, 0x100);
    let wrapping = Program(1, u64::MAX, LOAD, 0x100, 0x100);
    let larger = Program(1, 0x1000, LOAD, 0x200, 0x100);
    let low = Program(1, 0x1000, 0x1000, 0x100, 0x100);
    let high = Program(1, 0x1000, RAM_END - 0x10, 0x100, 0x100);
    for (programs, expected) in [
        (&[wide][..], "wraps"),
        (&[TEXT, over], "overlap"),
        (&[over, TEXT], "overlap"),
        (&[beyond], "outside the file"),
        (&[wrapping], "outside the file"),
        (&[larger], "more bytes than memory"),
        (&[], "entry point"),
        (
            &[Program(1, 0x1000, LOAD + 0x100, 0x100, 0x100)],
            "entry point",
        ),
        (&[TEXT, low], "needs memory"),
        (&[TEXT, high], "needs memory"),
        (&[TEXT; 65], "program headers"),
    ] {
        let reason = refused(&elf(LOAD, programs));
        assert!(reason.contains(expected), "{reason}: wanted {expected}");
    }
    let reason = refused(&with_note(elf(LOAD, &[TEXT, NOTES]), 0x1234));
    assert!(reason.contains("entry point"), "{reason}");
}

#[test]
fn every_truncation_is_refused() {
    let whole = with_note(elf(LOAD, &[TEXT, NOTES]), LOAD);
    for len in 0..0x1100 {
        assert!(parse(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn notes_that_run_over_their_segment_are_refused() {
    for (field, value) in [(0x1200, u32::MAX), (0x1204, u32::MAX), (0x1200, 0x100)] {
        let mut image = with_note(elf(LOAD, &[TEXT, NOTES]), LOAD);
        image[field..field + 4].copy_from_slice(&value.to_le_bytes());
        let reason = refused(&image);
        assert!(reason.contains("note"), "{reason}");
    }
}

/// No single changed byte in the headers makes the parser panic, or accept what lies outside file or memory.
#[test]
fn changed_headers_never_lead_outside() {
    let whole = with_note(elf(LOAD, &[TEXT, NOTES]), LOAD);
    for at in (0..176).chain(0x1200..0x1218) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut image = whole.clone();
            image[at] = value;
            let Ok(parsed) = parse(&image) else { continue };
            for segment in parsed.segments {
                assert!(segment.offset + segment.len <= whole.len() as u64);
                assert!(segment.address >= HIGH_RAM && segment.end() <= RAM_END);
            }
        }
    }
}

fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x2000];
    image[0x1f1] = 2;
    image[0x1fe..0x200].copy_from_slice(&0xaa55_u16.to_le_bytes());
    image[0x201] = 0x66;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x236..0x238].copy_from_slice(&1_u16.to_le_bytes());
    image[0x258..0x260].copy_from_slice(&LOAD.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image
}

#[test]
fn a_bzimage_is_loaded_behind_its_setup_code() {
    let image = parse(&bzimage()).unwrap();
    let [segment] = image.segments[..] else {
        panic!()
    };
    assert_eq!((segment.offset, segment.len), (3 * 512, 0x2000 - 3 * 512));
    assert_eq!(
        (image.end, image.initrd_limit),
        (LOAD + 0x10_0000, 0x8000_0000)
    );
    let Protocol::Linux64 {
        entry,
        header: Some(header),
    } = image.protocol
    else {
        panic!()
    };
    assert_eq!((entry, header.len()), (LOAD + 0x200, 0x268 - 0x1f1));
}

#[test]
fn impossible_bzimages_are_refused() {
    for (at, bytes, expected) in [
        (0x1fe, &[0][..], "neither"),
        (0x202, &[0], "neither"),
        (0x206, &[0x0b, 0x02], "64-bit mode"),
        (0x211, &[0], "64-bit mode"),
        (0x236, &[0], "64-bit mode"),
        (0x1f1, &[0xff], "outside the file"),
        (0x258, &[0xff; 8], "wraps"),
        (0x258, &[0; 8], "needs memory"),
        (0x260, &[0xff; 4], "needs memory"),
    ] {
        let mut image = bzimage();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let reason = refused(&image);
        assert!(reason.contains(expected), "{reason}: wanted {expected}");
    }
    for len in [0, 3, 0x28f, 3 * 512, 3 * 512 + 0x200] {
        assert!(parse(&bzimage()[..len]).is_err(), "{len}");
    }
}
