//! Parts of scattered memory.

use vm_memory::VolatileSlice;

/// The `len` bytes (fewer if there are fewer) behind the first `skip` of `pieces`.
pub(super) fn cut<'a>(
    pieces: &[VolatileSlice<'a>],
    mut skip: usize,
    mut len: usize,
) -> Vec<VolatileSlice<'a>> {
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let skipped = skip.min(piece.len());
        skip = skip.saturating_sub(skipped);
        let count = len.min(piece.len().saturating_sub(skipped));
        if count == 0 {
            continue;
        }
        if let Ok(part) = piece.subslice(skipped, count) {
            len = len.saturating_sub(count);
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_three_pieces_has_the_right_bytes() {
        let mut bytes: Vec<u8> = (0..10).collect();
        let expected = bytes.clone();
        let (first, rest) = bytes.split_at_mut(3);
        let (second, third) = rest.split_at_mut(4);
        let pieces = [first, second, third].map(VolatileSlice::from);
        for skip in 0..12 {
            for len in 0..12 {
                let mut got = Vec::new();
                for part in cut(&pieces, skip, len) {
                    let mut copy = vec![0; part.len()];
                    part.copy_to(&mut copy);
                    assert!(!copy.is_empty());
                    got.extend(copy);
                }
                let wanted = expected.iter().skip(skip).take(len);
                assert!(wanted.eq(&got), "{skip} {len}: {got:?}");
            }
        }
    }
}
