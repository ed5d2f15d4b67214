//! PVH start info (Xen `xen/include/public/arch-x86/hvm/start_info.h`).

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::{COMMAND_LINE, PVH_MEMORY_MAP, PVH_MODULES, PVH_START_INFO};
use super::start::BootInfo;

const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION: u32 = 1;

/// Writes the start info. Returns its address.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    info: &BootInfo<'_>,
) -> Result<u64, GuestMemoryError> {
    let map = info.memory_map();
    let modules = u32::from(info.initrd.is_some());
    if let Some((address, size)) = info.initrd {
        // struct hvm_modlist_entry: address, size, command line, reserved.
        let module = quads(&[address, size, 0, 0]);
        memory.write_slice(&module, GuestAddress(PVH_MODULES))?;
    }
    let table: Vec<u8> = map
        .iter()
        // struct hvm_memmap_table_entry: address, size, type and reserved.
        .flat_map(|stretch| quads(&[stretch.start, stretch.size, u64::from(stretch.kind as u32)]))
        .collect();
    memory.write_slice(&table, GuestAddress(PVH_MEMORY_MAP))?;

    let mut start_info = Vec::new();
    for word in [MAGIC, VERSION, 0, modules] {
        start_info.extend(word.to_le_bytes());
    }
    start_info.extend(quads(&[
        PVH_MODULES,
        COMMAND_LINE,
        info.rsdp,
        PVH_MEMORY_MAP,
    ]));
    // Number of entries, then a reserved word.
    start_info.extend((map.len() as u64).to_le_bytes());
    memory.write_slice(&start_info, GuestAddress(PVH_START_INFO))?;
    Ok(PVH_START_INFO)
}

fn quads(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
