//! Registers of the first processor at the kernel's entry point. The others start at the kernel's own command
//! (INIT and SIPI, in KVM).

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::layout::{GDT, PAGE_TABLES};
use super::start::Entry;

/// Descriptors of the 64-bit boot protocol: two empty ones, then `__BOOT_CS` (0x10) and `__BOOT_DS` (0x18), both flat.
pub(super) const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
/// The bit of RFLAGS that is always set.
const RFLAGS: u64 = 2;
const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// General registers at `entry`.
pub(super) fn general(entry: Entry) -> kvm_regs {
    let regs = kvm_regs {
        rflags: RFLAGS,
        ..Default::default()
    };
    match entry {
        Entry::Protected32 { rip, start_info } => kvm_regs {
            rip,
            rbx: start_info,
            ..regs
        },
        Entry::Long64 { rip, boot_params } => kvm_regs {
            rip,
            rsi: boot_params,
            ..regs
        },
    }
}

/// Turns the system registers of a processor after reset into those at `entry`.
pub(super) fn system(entry: Entry, sregs: &mut kvm_sregs) {
    let long = matches!(entry, Entry::Long64 { .. });
    sregs.cs = flat(CODE, 0xb, long);
    let data = flat(DATA, 0x3, false);
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = data;
    }
    // A busy 32-bit task state segment: what processors want to see, nothing uses it.
    sregs.tr = kvm_segment {
        limit: 0x67,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    sregs.cr0 = CR0_PE;
    sregs.cr4 = 0;
    if long {
        sregs.gdt.base = GDT;
        sregs.gdt.limit = 31;
        sregs.idt.base = 0;
        sregs.idt.limit = 0;
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = PAGE_TABLES;
        sregs.cr4 |= CR4_PAE;
        sregs.efer |= EFER_LME | EFER_LMA;
    }
}

/// A segment of all 4 GiB, or all of memory in 64-bit mode.
fn flat(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}
