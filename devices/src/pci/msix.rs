//! MSI-X: the table of messages, the pending bits, and what becomes of a trigger while its vector is masked (PCI 3.0, 6.8.2).
//!
//! A trigger while masked sets the pending bit and is delivered by the unmask. A trigger while MSI-X is off is lost: there is
//! no interrupt pin it could fall back to.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::capability::{Capability, MSIX};
use crate::irq::{MsiMessage, MsiVector};
use crate::log_limit::LogLimit;

/// Bytes of one table entry.
pub const ENTRY_SIZE: u64 = 16;
/// Message control bits: MSI-X on, all vectors masked.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
/// Vector control: this vector masked.
const MASKED: u32 = 1;
/// Offset of message control within the capability.
pub const CONTROL: u16 = 2;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Address low, address high, data, vector control.
    words: [u32; 4],
    pending: bool,
}

impl Entry {
    const RESET: Self = Self {
        words: [0, 0, 0, MASKED],
        pending: false,
    };

    fn message(&self) -> MsiMessage {
        let [low, high, data, _] = self.words;
        MsiMessage {
            address: u64::from(high) << 32 | u64::from(low),
            data,
        }
    }

    fn masked(&self) -> bool {
        let [.., control] = self.words;
        control & MASKED != 0
    }
}

struct State {
    enabled: bool,
    all_masked: bool,
    entries: Vec<Entry>,
}

/// The table of one function.
pub struct Msix {
    state: Mutex<State>,
    vectors: Vec<Box<dyn MsiVector>>,
}

/// Where table and pending bits lie.
#[derive(Debug, Clone, Copy)]
pub struct MsixLayout {
    /// BAR that has both.
    pub bar: u8,
    /// Offset of the table, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits, a multiple of 8.
    pub pending: u32,
}

impl Msix {
    /// One table entry for each of `vectors`: 1 to 2,048.
    #[must_use]
    pub fn new(vectors: Vec<Box<dyn MsiVector>>) -> Self {
        Self {
            state: Mutex::new(State {
                enabled: false,
                all_masked: false,
                entries: vec![Entry::RESET; vectors.len()],
            }),
            vectors,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> u16 {
        u16::try_from(self.vectors.len()).unwrap_or(u16::MAX)
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// The capability that describes this table.
    #[must_use]
    pub fn capability(&self, layout: MsixLayout) -> Capability {
        let bar = u32::from(layout.bar);
        let control = self.len().saturating_sub(1);
        let mut body = control.to_le_bytes().to_vec();
        body.extend((layout.table | bar).to_le_bytes());
        body.extend((layout.pending | bar).to_le_bytes());
        Capability {
            id: MSIX,
            body,
            writable: (ENABLE | MASK_ALL).to_le_bytes().to_vec(),
        }
    }

    /// The driver has set message control to `control`.
    pub fn set_control(&self, control: u16) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (enabled, all_masked) = (control & ENABLE != 0, control & MASK_ALL != 0);
        if (enabled, all_masked) == (state.enabled, state.all_masked) {
            return;
        }
        state.enabled = enabled;
        state.all_masked = all_masked;
        for index in 0..state.entries.len() {
            self.apply(&mut state, index);
        }
    }

    /// Raises vector `index`; nothing happens if there is none.
    pub fn trigger(&self, index: u16) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (enabled, all_masked) = (state.enabled, state.all_masked);
        let index = usize::from(index);
        let (Some(entry), Some(vector)) = (state.entries.get_mut(index), self.vectors.get(index))
        else {
            return Ok(());
        };
        if !enabled {
            return Ok(());
        }
        if all_masked || entry.masked() {
            entry.pending = true;
            return Ok(());
        }
        vector.trigger()
    }

    /// Reads at `offset` of the table. Accesses that are not 4 or 8 aligned bytes inside it read as all ones.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cells) = cells(offset, data.len()) else {
            data.fill(0xff);
            return;
        };
        for ((index, word), part) in cells.zip(data.chunks_mut(4)) {
            let entry = state.entries.get(index);
            let value = entry.and_then(|entry| entry.words.get(word));
            part.copy_from_slice(&value.copied().unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Writes at `offset` of the table. Accesses that are not 4 or 8 aligned bytes inside it are ignored.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cells) = cells(offset, data.len()) else {
            return;
        };
        let mut touched = None;
        for ((index, word), part) in cells.zip(data.chunks(4)) {
            let entry = state.entries.get_mut(index);
            let cell = entry.and_then(|entry| entry.words.get_mut(word));
            if let (Some(cell), Ok(bytes)) = (cell, part.try_into()) {
                let value = u32::from_le_bytes(bytes);
                // Bits of vector control other than the mask are reserved.
                *cell = if word == 3 { value & MASKED } else { value };
                touched = Some(index);
            }
        }
        if let Some(index) = touched {
            self.apply(&mut state, index);
        }
    }

    /// Reads at `offset` of the pending bits, which are read-only.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(index as u64);
            let first = usize::try_from(at).ok().and_then(|at| at.checked_mul(8));
            let entries = first.and_then(|first| state.entries.get(first..));
            let bits = entries.unwrap_or_default().iter().take(8).enumerate();
            *byte = bits.fold(0, |byte, (bit, entry)| {
                byte | u8::from(entry.pending) << bit
            });
        }
    }

    /// Tells the vector what its entry says, and delivers what was pending if it may be now.
    fn apply(&self, state: &mut State, index: usize) {
        let open = state.enabled && !state.all_masked;
        let (Some(entry), Some(vector)) = (state.entries.get_mut(index), self.vectors.get(index))
        else {
            return;
        };
        let masked = !open || entry.masked();
        let applied = vector.configure(entry.message(), masked).and_then(|()| {
            if !masked && entry.pending {
                entry.pending = false;
                vector.trigger()
            } else {
                Ok(())
            }
        });
        static LIMIT: LogLimit = LogLimit::new();
        if let Err(error) = applied
            && LIMIT.allows()
        {
            log::warn!("msi-x vector {index}: {error}");
        }
    }
}

/// Entry and word of each 4 bytes of an access, if it is one that software may make (PCI 3.0, 6.8.2).
fn cells(offset: u64, len: usize) -> Option<impl Iterator<Item = (usize, usize)>> {
    let aligned = matches!(len, 4 | 8) && offset.is_multiple_of(len as u64);
    let first = usize::try_from(offset / 4).ok().filter(|_| aligned)?;
    Some((first..first.saturating_add(len / 4)).map(|cell| (cell / 4, cell % 4)))
}

#[cfg(test)]
mod tests;
