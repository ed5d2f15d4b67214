//! x86-64: the machine's memory map, how kernels are started in it, and what its processors and firmware tables say.

mod acpi;
mod boot_params;
mod cpuid;
mod image;
mod ioapic;
mod layout;
mod msrs;
mod probe;
mod processor;
mod pvh;
mod regs;
mod start;

pub(crate) use acpi::write_tables;
pub(crate) use image::{ImageError, KernelImage};
pub(crate) use ioapic::IoApic;
pub(crate) use layout::{
    ACPI_PORT, ECAM_BASE, ECAM_SIZE, EVENT_PIN, IOAPIC_BASE, IOAPIC_SIZE, KEYBOARD_PORT, MMIO32,
    PANIC_PORT, SERIAL_PIN, SERIAL_PORT, initrd_address, low_memory_end, mmio64, ram_ranges,
};
pub(crate) use probe::{ProbeError, probe};
pub(crate) use processor::CpuTemplate;
pub(crate) use start::{BootInfo, Entry, write_boot_data};
