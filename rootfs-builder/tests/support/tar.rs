//! Writes tar archives, also such as no other program would.

const BLOCK: usize = 512;

/// An entry: a header whose fields can be anything, and content.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) target: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    /// What the header says instead of the length of the content.
    pub(crate) size: Option<u64>,
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    fn new(kind: u8, name: impl AsRef<[u8]>, mode: u32) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            target: Vec::new(),
            content: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: 1_000_000_000,
            device: (0, 0),
            size: None,
            records: Vec::new(),
        }
    }

    pub(crate) fn of_kind(kind: u8, name: &str) -> Self {
        Self::new(kind, name, 0o644)
    }

    pub(crate) fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self {
            content: content.to_vec(),
            ..Self::new(b'0', name, 0o644)
        }
    }

    pub(crate) fn dir(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', name, 0o755)
    }

    pub(crate) fn symlink(name: impl AsRef<[u8]>, target: &str) -> Self {
        Self {
            target: target.into(),
            ..Self::new(b'2', name, 0o777)
        }
    }

    pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: &str) -> Self {
        Self {
            target: target.into(),
            ..Self::new(b'1', name, 0o644)
        }
    }

    pub(crate) fn device(kind: u8, name: &str, major: u32, minor: u32) -> Self {
        Self {
            device: (major, minor),
            ..Self::new(kind, name, 0o600)
        }
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        Self {
            owner: (uid, gid),
            ..self
        }
    }

    pub(crate) fn size(self, size: u64) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }

    pub(crate) fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.into(), value.as_ref().to_vec()));
        self
    }

    /// A header of this entry, with its checksum.
    pub(crate) fn header(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let name = &self.name[..self.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.owner.0);
        octal(&mut block[116..124], self.owner.1);
        octal(
            &mut block[124..136],
            self.size.unwrap_or(self.content.len() as u64),
        );
        octal(&mut block[136..148], self.mtime);
        block[156] = self.kind;
        let target = &self.target[..self.target.len().min(100)];
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        checksum(&mut block);
        block
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.records.is_empty() {
            let records: Vec<u8> = self
                .records
                .iter()
                .flat_map(|(key, value)| record(key, value))
                .collect();
            bytes = extension(b'x', &records);
        }
        bytes.extend(self.header());
        bytes.extend(padded(&self.content));
        bytes
    }
}

/// An archive of entries, with its end.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    raw(&entries.iter().map(Entry::bytes).collect::<Vec<_>>())
}

/// An archive of blocks as they are, with its end.
pub(crate) fn raw(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// An entry that extends the next: `x` or `g` of POSIX, `L` or `K` of GNU.
pub(crate) fn extension(kind: u8, data: &[u8]) -> Vec<u8> {
    Entry {
        content: data.to_vec(),
        ..Entry::new(kind, "extension", 0o644)
    }
    .bytes()
}

/// A record of an extended header, whose length counts itself.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub(crate) fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(BLOCK), 0);
    bytes
}

pub(crate) fn checksum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Octal digits, or base 256 where they do not suffice.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}\0");
    if digits.len() == field.len() {
        field.copy_from_slice(digits.as_bytes());
        return;
    }
    field.fill(0);
    let at = field.len() - 8;
    field[at..].copy_from_slice(&number.to_be_bytes());
    field[0] |= 0x80;
}

/// A sparse file in the old format of GNU: `map` has offsets and lengths, at most four.
pub(crate) fn old_sparse(name: &str, map: &[(u64, u64)], size: u64, content: &[u8]) -> Vec<u8> {
    let entry = Entry {
        content: content.to_vec(),
        ..Entry::new(b'S', name, 0o644)
    };
    let mut block = entry.header();
    block[257..265].copy_from_slice(b"ustar  \0");
    block[345..500].fill(0);
    for (piece, (offset, length)) in block[386..482].chunks_exact_mut(24).zip(map) {
        octal(&mut piece[..12], *offset);
        octal(&mut piece[12..], *length);
    }
    octal(&mut block[483..495], size);
    checksum(&mut block);
    [&block[..], &padded(content)].concat()
}
