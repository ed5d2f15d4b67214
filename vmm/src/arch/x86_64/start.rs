//! Everything a kernel is told at its start, and where its first processor begins.

use std::ffi::CStr;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::image::Protocol;
use super::layout::{COMMAND_LINE, Stretch, memory_map};
use super::{KernelImage, boot_params, pvh};

/// What the kernel is told.
pub(crate) struct BootInfo<'a> {
    /// Its command line.
    pub(crate) cmdline: &'a CStr,
    /// Address and size of the initrd.
    pub(crate) initrd: Option<(u64, u64)>,
    /// Address of the ACPI root pointer.
    pub(crate) rsdp: u64,
    /// Bytes of RAM.
    pub(crate) ram: u64,
}

impl BootInfo<'_> {
    pub(super) fn memory_map(&self) -> Vec<Stretch> {
        memory_map(self.ram)
    }
}

/// Where and how the first processor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// 32-bit protected mode without paging; `ebx` has the start info.
    Protected32 {
        /// Physical address.
        rip: u64,
        /// Physical address.
        start_info: u64,
    },
    /// 64-bit mode on an identity map; `rsi` has the boot parameters.
    Long64 {
        /// Physical address.
        rip: u64,
        /// Physical address.
        boot_params: u64,
    },
}

/// Writes what the kernel's boot protocol asks for.
pub(crate) fn write_boot_data(
    memory: &GuestMemoryMmap,
    image: &KernelImage,
    info: &BootInfo<'_>,
) -> Result<Entry, GuestMemoryError> {
    memory.write_slice(info.cmdline.to_bytes_with_nul(), GuestAddress(COMMAND_LINE))?;
    match &image.protocol {
        Protocol::Pvh { entry } => pvh::write(memory, info).map(|start_info| Entry::Protected32 {
            rip: *entry,
            start_info,
        }),
        Protocol::Linux64 { entry, header } => boot_params::write(memory, info, header.as_deref())
            .map(|boot_params| Entry::Long64 {
                rip: *entry,
                boot_params,
            }),
    }
}
