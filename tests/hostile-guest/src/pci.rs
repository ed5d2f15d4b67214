//! A PCI function, by its files in sysfs: configuration space and the registers behind its BARs.

#![expect(unsafe_code, reason = "memory-mapped registers")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap};

/// One function of bus 0.
pub(crate) struct Function {
    dir: PathBuf,
    config: File,
}

impl Function {
    /// All functions, by address.
    pub(crate) fn all() -> Result<Vec<Self>, String> {
        let list = fs::read_dir("/sys/bus/pci/devices").map_err(|error| error.to_string())?;
        let mut dirs: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
        dirs.sort();
        dirs.into_iter().map(Self::open).collect()
    }

    fn open(dir: PathBuf) -> Result<Self, String> {
        let path = dir.join("config");
        let config = File::options().read(true).write(true).open(&path);
        Ok(Self {
            config: config.map_err(|error| format!("{path:?}: {error}"))?,
            dir,
        })
    }

    /// Address, such as `0000:00:01.0`.
    pub(crate) fn name(&self) -> String {
        self.dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Reads configuration space; what lies beyond its end is empty.
    pub(crate) fn read_config(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        let count = self.config.read_at(&mut data, offset).unwrap_or(0);
        data.truncate(count);
        data
    }

    /// Writes configuration space. Whether the device takes it shows when it is read back.
    pub(crate) fn write_config(&self, offset: u64, data: &[u8]) {
        let _outcome = self.config.write_at(data, offset);
    }

    /// A number of configuration space.
    pub(crate) fn config_number(&self, offset: u64, len: usize) -> u64 {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(self.read_config(offset, len)) {
            *to = from;
        }
        u64::from_le_bytes(bytes)
    }

    /// Turns on memory decoding and bus mastering (PCI 3.0, 6.2.2).
    pub(crate) fn enable(&self) {
        self.write_config(4, &6_u16.to_le_bytes());
    }

    /// Offsets and ids of the capabilities, at most 48 of them.
    pub(crate) fn capabilities(&self) -> Vec<(u64, u8)> {
        let mut found = Vec::new();
        let mut at = self.config_number(0x34, 1) & 0xfc;
        while at != 0 && found.len() < 48 {
            let id = self.config_number(at, 1);
            found.push((at, u8::try_from(id).unwrap_or(0)));
            at = self.config_number(at + 1, 1) & 0xfc;
        }
        found
    }

    /// Maps the registers of a BAR.
    pub(crate) fn map(&self, bar: u64) -> Result<Registers, String> {
        let path = self.dir.join(format!("resource{bar}"));
        let say = |error: std::io::Error| format!("{path:?}: {error}");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(say)?;
        let len = usize::try_from(file.metadata().map_err(say)?.len())
            .map_err(|error| error.to_string())?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new shared mapping, at an address of the kernel's choice.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let base = base.map_err(|error| format!("map {path:?}: {error}"))?;
        let base = NonNull::new(base.cast::<u8>()).ok_or("null mapping")?;
        Ok(Registers { base, len })
    }
}

/// The registers behind a BAR, mapped until the end.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    base: NonNull<u8>,
    len: usize,
}

impl Registers {
    /// Size in bytes.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Reads a register of 1, 2, 4 or 8 bytes, aligned or not.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one access, of several widths"
    )]
    pub(crate) fn read(self, offset: usize, width: usize) -> u64 {
        let at = self.at(offset, width);
        // SAFETY: `at` is within the mapping; the instruction reads there and does nothing else.
        unsafe {
            match width {
                1 => u64::from(load::byte(at)),
                2 => u64::from(load::word(at)),
                4 => u64::from(load::dword(at)),
                _ => load::qword(at),
            }
        }
    }

    /// Writes a register of 1, 2, 4 or 8 bytes, aligned or not.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one access, of several widths"
    )]
    pub(crate) fn write(self, offset: usize, width: usize, value: u64) {
        let at = self.at(offset, width);
        let [a, b, c, d, ..] = value.to_le_bytes();
        // SAFETY: `at` is within the mapping of a device's registers, which nothing of Rust's lives in.
        unsafe {
            match width {
                1 => store::byte(at, a),
                2 => store::word(at, u16::from_le_bytes([a, b])),
                4 => store::dword(at, u32::from_le_bytes([a, b, c, d])),
                _ => store::qword(at, value),
            }
        }
    }

    fn at(self, offset: usize, width: usize) -> *mut u8 {
        assert!(offset + width <= self.len, "register outside the BAR");
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

/// One load instruction: attacks are unaligned, which volatile reads may not be.
macro_rules! loads {
    ($($name:ident: $type:ty, $class:ident, $text:literal;)*) => {
        mod load {
            $(pub(super) unsafe fn $name(at: *const u8) -> $type {
                let value: $type;
                // SAFETY: the caller vouches for the address.
                unsafe {
                    std::arch::asm!($text, out($class) value, in(reg) at, options(nostack, preserves_flags, readonly));
                }
                value
            })*
        }
    };
}

/// One store instruction.
macro_rules! stores {
    ($($name:ident: $type:ty, $class:ident, $text:literal;)*) => {
        mod store {
            $(pub(super) unsafe fn $name(at: *mut u8, value: $type) {
                // SAFETY: the caller vouches for the address.
                unsafe {
                    std::arch::asm!($text, in(reg) at, in($class) value, options(nostack, preserves_flags));
                }
            })*
        }
    };
}

loads! {
    byte: u8, reg_byte, "mov {0}, byte ptr [{1}]";
    word: u16, reg, "mov {0:x}, word ptr [{1}]";
    dword: u32, reg, "mov {0:e}, dword ptr [{1}]";
    qword: u64, reg, "mov {0}, qword ptr [{1}]";
}

stores! {
    byte: u8, reg_byte, "mov byte ptr [{0}], {1}";
    word: u16, reg, "mov word ptr [{0}], {1:x}";
    dword: u32, reg, "mov dword ptr [{0}], {1:e}";
    qword: u64, reg, "mov qword ptr [{0}], {1}";
}
