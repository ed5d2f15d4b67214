//! Sparse files, in the four ways that GNU tar writes them: a map in the header (the old format), records of an extended
//! header (0.0 and 0.1), or a map before the content (1.0).

use thiserror::Error;

use crate::limits::MAX_EXTENTS;

use super::header::{self, BLOCK};
use super::pax::decimal;

/// A piece of data of a file: `length` bytes at `offset` of the file are at `stored` in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) stored: u64,
    pub(crate) length: u64,
}

/// What a file holds: data in ascending order, and holes between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) size: u64,
    pub(crate) data: Vec<Extent>,
}

impl Contents {
    /// A file of `size` bytes without holes, stored from its beginning.
    pub(crate) fn whole(size: u64) -> Self {
        let extent = Extent {
            offset: 0,
            stored: 0,
            length: size,
        };
        Self {
            size,
            data: Some(extent).filter(|_| size > 0).into_iter().collect(),
        }
    }
}

/// What is wrong with the map of a sparse file.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SparseError {
    #[error("the map of a sparse file cannot be read")]
    Malformed,
    #[error("the map of a sparse file has more than {MAX_EXTENTS} pieces")]
    TooMany,
    #[error("the pieces of a sparse file overlap, are out of order or lie beyond its end")]
    Order,
    #[error("a sparse file has {stored} bytes in the archive, but its map {mapped}")]
    Length { stored: u64, mapped: u64 },
}

type Result<T> = std::result::Result<T, SparseError>;

/// Offsets and lengths of the pieces, in the order of the archive.
pub(super) type Map = Vec<(u64, u64)>;

/// What the records of an extended header say of a sparse file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    major: Option<u64>,
    offset: Option<u64>,
    map: Option<Map>,
}

impl SparseRecords {
    /// Takes up one record; nothing when its value is none.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"major" => self.major = Some(decimal(value)?),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take()?;
                self.map
                    .get_or_insert_default()
                    .push((offset, decimal(value)?));
            }
            b"map" => self.map = Some(comma_separated(value)?),
            _ => {}
        }
        Some(())
    }

    /// Whether the map is written before the content.
    pub(super) fn map_in_content(&self) -> bool {
        self.major == Some(1)
    }

    /// The map of formats 0.0 and 0.1.
    pub(super) fn map(&self) -> Option<&Map> {
        self.map.as_ref().filter(|_| !self.map_in_content())
    }
}

fn comma_separated(value: &[u8]) -> Option<Map> {
    if value.is_empty() {
        return Some(Map::new());
    }
    let numbers = value.split(|byte| *byte == b',').map(decimal);
    let numbers = numbers.collect::<Option<Vec<u64>>>()?;
    let pairs = numbers.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| (pair[0], pair[1])).collect())
}

/// The contents that a map describes whose data begins at `start` of the archive and has `stored` bytes there.
pub(super) fn contents(map: &Map, size: u64, start: u64, stored: u64) -> Result<Contents> {
    if map.len() > MAX_EXTENTS {
        return Err(SparseError::TooMany);
    }
    let (mut end, mut mapped) = (0_u64, 0_u64);
    let mut data = Vec::new();
    for (offset, length) in map {
        let next = offset.checked_add(*length).filter(|next| *next <= size);
        let next = next.filter(|_| *offset >= end).ok_or(SparseError::Order)?;
        if *length > 0 {
            data.push(Extent {
                offset: *offset,
                stored: start + mapped,
                length: *length,
            });
        }
        (end, mapped) = (next, mapped + length);
    }
    if mapped != stored {
        return Err(SparseError::Length { stored, mapped });
    }
    Ok(Contents { size, data })
}

/// Adds the pieces that one block of the old format lists. Returns whether another block follows.
pub(super) fn read_old_map(block: &[u8; BLOCK], first: bool, map: &mut Map) -> Result<bool> {
    let (pieces, more) = if first {
        (&block[386..482], block[482])
    } else {
        (&block[..504], block[504])
    };
    for piece in pieces.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        let field = |field| header::unsigned(field, "sparse").map_err(|_| SparseError::Malformed);
        map.push((field(&piece[..12])?, field(&piece[12..])?));
    }
    if map.len() > MAX_EXTENTS {
        return Err(SparseError::TooMany);
    }
    Ok(more != 0)
}

/// The length of a file in the old format.
pub(super) fn read_old_size(block: &[u8; BLOCK]) -> Result<u64> {
    header::unsigned(&block[483..495], "realsize").map_err(|_| SparseError::Malformed)
}

/// Reads the map that is written before the content, one block at a time from `next`.
/// Returns it and the number of blocks it takes.
pub(super) fn read_map_in_content<E: From<SparseError>>(
    mut next: impl FnMut() -> std::result::Result<[u8; BLOCK], E>,
) -> std::result::Result<(Map, u64), E> {
    let (mut numbers, mut digits, mut blocks) = (Vec::new(), Vec::new(), 0);
    loop {
        blocks += 1;
        for byte in next()? {
            if byte != b'\n' {
                // Twenty digits are the longest number there is.
                if digits.len() == 20 {
                    return Err(SparseError::Malformed.into());
                }
                digits.push(byte);
                continue;
            }
            let number: u64 = decimal(&digits).ok_or(SparseError::Malformed)?;
            digits.clear();
            numbers.push(number);
            let pieces = usize::try_from(numbers[0])
                .ok()
                .filter(|count| *count <= MAX_EXTENTS);
            let pieces = pieces.ok_or(SparseError::TooMany)?;
            if numbers.len() == 1 + 2 * pieces {
                let pairs = numbers[1..].chunks_exact(2);
                return Ok((pairs.map(|pair| (pair[0], pair[1])).collect(), blocks));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_becomes_contents() {
        let found = contents(&vec![(0, 3), (10, 0), (100, 7)], 200, 512, 10).unwrap();
        assert_eq!(found.size, 200);
        let expected = [(0, 512, 3), (100, 515, 7)];
        let expected = expected.map(|(offset, stored, length)| Extent {
            offset,
            stored,
            length,
        });
        assert_eq!(found.data, expected);
    }

    #[test]
    fn maps_that_lie_are_refused() {
        assert_eq!(
            contents(&vec![(0, 3), (2, 1)], 9, 0, 4),
            Err(SparseError::Order)
        );
        assert_eq!(contents(&vec![(8, 3)], 9, 0, 3), Err(SparseError::Order));
        assert_eq!(
            contents(&vec![(u64::MAX, 2)], 9, 0, 2),
            Err(SparseError::Order)
        );
        let length = SparseError::Length {
            stored: 5,
            mapped: 3,
        };
        assert_eq!(contents(&vec![(0, 3)], 9, 0, 5), Err(length));
        assert_eq!(
            contents(&vec![(0, 0); MAX_EXTENTS + 1], 9, 0, 0),
            Err(SparseError::TooMany)
        );
    }

    #[test]
    fn the_map_before_the_content_ends_with_its_last_number() {
        let mut block = [0; BLOCK];
        block[..12].copy_from_slice(b"2\n0\n1\n5\n12\n\0");
        let read = read_map_in_content(|| Ok::<_, SparseError>(block)).unwrap();
        assert_eq!(read, (vec![(0, 1), (5, 12)], 1));
        block[0] = b'x';
        assert_eq!(
            read_map_in_content(|| Ok(block)),
            Err(SparseError::Malformed)
        );
        block[..8].copy_from_slice(b"9999999\n");
        assert_eq!(read_map_in_content(|| Ok(block)), Err(SparseError::TooMany));
    }
}
