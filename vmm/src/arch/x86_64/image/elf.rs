//! ELF kernels (`vmlinux`): program headers, and the note that names a PVH entry point.

use super::{ImageError, KernelImage, Protocol, Segment, Source, u16_at, u32_at, u64_at};

/// Most program headers. A vmlinux has about five.
const MAX_HEADERS: u16 = 64;
/// Most bytes of notes that are searched.
const MAX_NOTES: u64 = 64 << 10;

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const PVH_ENTRY: u32 = 18;

pub(super) fn parse(source: &Source<'_>) -> Result<KernelImage, ImageError> {
    let header: [u8; FILE_HEADER] = source.read(0, "the ELF header")?;
    if header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN || u16_at(&header, 18) != MACHINE_X86_64
    {
        return Err(ImageError::UnknownFormat);
    }
    let entry = u64_at(&header, 24);
    let mut segments = Vec::new();
    let mut pvh = None;
    for program in program_headers(source, &header)? {
        match u32_at(&program, 0) {
            PT_LOAD => segments.extend(segment(source, &program)?),
            PT_NOTE if pvh.is_none() => pvh = pvh_entry(source, &program)?,
            _ => {}
        }
    }
    let end = check_overlaps(&mut segments)?;
    let entry = pvh.unwrap_or(entry);
    let inside = |segment: &Segment| (segment.address..segment.end()).contains(&entry);
    if !segments.iter().any(inside) {
        return Err(ImageError::Malformed {
            what: "the entry point lies outside every segment",
        });
    }
    let protocol = match pvh {
        Some(entry) => Protocol::Pvh { entry },
        None => Protocol::Linux64 {
            entry,
            header: None,
        },
    };
    Ok(KernelImage {
        segments,
        protocol,
        end,
        initrd_limit: u64::from(u32::MAX),
    })
}

fn program_headers(
    source: &Source<'_>,
    header: &[u8],
) -> Result<Vec<[u8; PROGRAM_HEADER]>, ImageError> {
    let offset = u64_at(header, 32);
    let count = u16_at(header, 56);
    if usize::from(u16_at(header, 54)) != PROGRAM_HEADER || count > MAX_HEADERS {
        return Err(ImageError::Malformed {
            what: "size or number of program headers",
        });
    }
    let what = "the program header table";
    source.check(offset, u64::from(count) * PROGRAM_HEADER as u64, what)?;
    (0..u64::from(count))
        .map(|index| source.read(offset + index * PROGRAM_HEADER as u64, what))
        .collect()
}

fn segment(source: &Source<'_>, program: &[u8]) -> Result<Option<Segment>, ImageError> {
    let segment = Segment {
        offset: u64_at(program, 8),
        address: u64_at(program, 24),
        len: u64_at(program, 32),
        memory: u64_at(program, 40),
    };
    source.check(segment.offset, segment.len, "a segment")?;
    if segment.len > segment.memory {
        return Err(ImageError::Malformed {
            what: "a segment has more bytes than memory",
        });
    }
    if segment.address.checked_add(segment.memory).is_none() {
        return Err(ImageError::Malformed {
            what: "a segment wraps around the address space",
        });
    }
    Ok((segment.memory > 0).then_some(segment))
}

/// Sorts by address. Returns where the last segment ends.
fn check_overlaps(segments: &mut [Segment]) -> Result<u64, ImageError> {
    segments.sort_by_key(|segment| segment.address);
    let mut end = 0;
    for segment in segments {
        if segment.address < end {
            return Err(ImageError::Malformed {
                what: "segments overlap",
            });
        }
        end = segment.end();
    }
    Ok(end)
}

/// Finds the Xen note with the 32-bit physical entry point.
fn pvh_entry(source: &Source<'_>, program: &[u8]) -> Result<Option<u64>, ImageError> {
    let (offset, len) = (u64_at(program, 8), u64_at(program, 32));
    source.check(offset, len, "the notes")?;
    let len = usize::try_from(len.min(MAX_NOTES)).unwrap_or(0);
    let notes = source.read_vec(offset, len, "the notes")?;
    let mut rest = notes.as_slice();
    while rest.len() >= 12 {
        let name_len = u32_at(rest, 0) as usize;
        let value_len = u32_at(rest, 4) as usize;
        let kind = u32_at(rest, 8);
        let name = rest.get(12..).and_then(|tail| tail.get(..name_len));
        let value_at = name_len.checked_next_multiple_of(4).map(|len| len + 12);
        let value = value_at
            .and_then(|at| rest.get(at..))
            .and_then(|tail| tail.get(..value_len));
        let (Some(name), Some(value), Some(value_at)) = (name, value, value_at) else {
            return Err(ImageError::Malformed {
                what: "a note runs over its segment",
            });
        };
        if name == b"Xen\0" && kind == PVH_ENTRY && matches!(value_len, 4 | 8) {
            // Four or eight bytes; the entry is below 4 GiB either way.
            return Ok(Some(u64::from(u32_at(value, 0))));
        }
        let next = value_len
            .checked_next_multiple_of(4)
            .and_then(|len| len.checked_add(value_at));
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    Ok(None)
}
