//! The zero page of the 64-bit boot protocol (Linux `Documentation/arch/x86/zero-page.rst`), with the identity map and the
//! descriptors that go with it.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::{COMMAND_LINE, GDT, PAGE_TABLES, ZERO_PAGE};
use super::regs;
use super::start::BootInfo;

/// Offsets in `struct boot_params`.
mod at {
    pub(super) const RSDP: u64 = 0x070;
    pub(super) const E820_ENTRIES: u64 = 0x1e8;
    pub(super) const SETUP_HEADER: u64 = 0x1f1;
    pub(super) const BOOT_FLAG: u64 = 0x1fe;
    pub(super) const MAGIC: u64 = 0x202;
    pub(super) const LOADER: u64 = 0x210;
    pub(super) const INITRD: u64 = 0x218;
    pub(super) const INITRD_SIZE: u64 = 0x21c;
    pub(super) const COMMAND_LINE: u64 = 0x228;
    pub(super) const ALIGNMENT: u64 = 0x230;
    pub(super) const E820_TABLE: u64 = 0x2d0;
}

/// A boot loader without a number of its own.
const UNREGISTERED_LOADER: u8 = 0xff;
/// Alignment of a kernel that does not say (`CONFIG_PHYSICAL_ALIGN` at most).
const DEFAULT_ALIGNMENT: u32 = 0x0100_0000;

/// Writes the zero page, the page tables and the descriptor table. Returns the zero page's address.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    info: &BootInfo<'_>,
    header: Option<&[u8]>,
) -> Result<u64, GuestMemoryError> {
    let put =
        |offset: u64, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(ZERO_PAGE + offset));
    match header {
        Some(header) => put(at::SETUP_HEADER, header)?,
        None => {
            put(at::BOOT_FLAG, &0xaa55_u16.to_le_bytes())?;
            put(at::MAGIC, b"HdrS")?;
            put(at::ALIGNMENT, &DEFAULT_ALIGNMENT.to_le_bytes())?;
        }
    }
    put(at::LOADER, &[UNREGISTERED_LOADER])?;
    put(at::RSDP, &info.rsdp.to_le_bytes())?;
    put(at::COMMAND_LINE, &low_word(COMMAND_LINE))?;
    if let Some((address, size)) = info.initrd {
        put(at::INITRD, &low_word(address))?;
        put(at::INITRD_SIZE, &low_word(size))?;
    }
    let map = info.memory_map();
    put(at::E820_ENTRIES, &(map.len() as u64).to_le_bytes()[..1])?;
    let table: Vec<u8> = map
        .iter()
        .flat_map(|stretch| {
            let mut entry = stretch.start.to_le_bytes().to_vec();
            entry.extend(stretch.size.to_le_bytes());
            entry.extend((stretch.kind as u32).to_le_bytes());
            entry
        })
        .collect();
    put(at::E820_TABLE, &table)?;
    write_identity_map(memory)?;
    for (address, descriptor) in (GDT..).step_by(8).zip(regs::DESCRIPTORS) {
        memory.write_slice(&descriptor.to_le_bytes(), GuestAddress(address))?;
    }
    Ok(ZERO_PAGE)
}

/// The low half of an address or size below 4 GiB: kernels and initrds are placed below the hole.
fn low_word(value: u64) -> [u8; 4] {
    let [b0, b1, b2, b3, ..] = value.to_le_bytes();
    [b0, b1, b2, b3]
}

/// Maps the first 4 GiB to themselves in pages of 2 MiB.
fn write_identity_map(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    const TABLE: u64 = 0x1000;
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    const DIRECTORIES: u64 = 4;
    let (pointers, directories) = (PAGE_TABLES + TABLE, PAGE_TABLES + 2 * TABLE);
    let put = |address, value: u64| memory.write_slice(&value.to_le_bytes(), GuestAddress(address));
    put(PAGE_TABLES, pointers | PRESENT_WRITABLE)?;
    for index in 0..DIRECTORIES {
        put(
            pointers + index * 8,
            (directories + index * TABLE) | PRESENT_WRITABLE,
        )?;
    }
    let pages: Vec<u8> = (0..DIRECTORIES * 512)
        .flat_map(|page| ((page << 21) | PRESENT_WRITABLE | LARGE).to_le_bytes())
        .collect();
    memory.write_slice(&pages, GuestAddress(directories))
}
