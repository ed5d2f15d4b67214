//! Model-specific registers: what firmware would have set, and which of them guests may use.
//!
//! KVM knows several hundred. A guest may read those that describe the machine, and write the few that kernels need. Counters,
//! nested virtualization and the registers at which KVM would write a line into the host's log (it knows them and
//! dislikes the value) are not among them.

use std::ops::RangeInclusive;

use kvm_bindings::{Msrs, kvm_msr_entry};

use crate::kvm::{MsrFilter, MsrWindow};

const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
/// MTRRs on, and all memory write-back unless one says otherwise.
const WRITE_BACK: u64 = 1 << 11 | 6;

/// What each processor starts with.
pub(super) fn initial() -> Option<Msrs> {
    Msrs::from_entries(&[kvm_msr_entry {
        index: MTRR_DEFAULT_TYPE,
        data: WRITE_BACK,
        ..Default::default()
    }])
    .ok()
}

/// Where registers are: the architecture's, KVM's own, and AMD's three stretches.
const WINDOWS: [MsrWindow; 4] = [
    MsrWindow {
        base: 0,
        count: 0x1000,
    },
    MsrWindow {
        base: 0x4b56_4d00,
        count: 8,
    },
    MsrWindow {
        base: 0xc000_0080,
        count: 0x100,
    },
    MsrWindow {
        base: 0xc001_0000,
        count: 0x1200,
    },
];

/// Not even readable: performance counters, VMX, SGX, SVM.
const UNREADABLE: [RangeInclusive<u32>; 11] = [
    0x8c..=0x8f,
    0xc1..=0xc8,
    0x186..=0x18d,
    0x309..=0x30c,
    0x345..=0x345,
    0x38d..=0x391,
    0x480..=0x493,
    0x4c1..=0x4c8,
    0xc001_0000..=0xc001_0007,
    0xc001_0114..=0xc001_0118,
    0xc001_0200..=0xc001_020b,
];

/// Writable: what kernels set on each processor.
const WRITABLE: [RangeInclusive<u32>; 27] = [
    0x10..=0x12,               // time stamp counter; KVM's clock, first version
    0x1b..=0x1b,               // APIC base
    0x3b..=0x3b,               // time stamp counter's offset
    0x48..=0x49,               // speculation control and barrier
    0x8b..=0x8b,               // microcode revision: Intel kernels write 0 before they read
    0xe1..=0xe1,               // limit of umwait
    0x10b..=0x10b,             // L1 flush
    0x122..=0x122,             // TSX control
    0x140..=0x140,             // CPUID faulting
    0x174..=0x176,             // SYSENTER
    0x179..=0x17b,             // machine check
    0x1a0..=0x1a0,             // miscellaneous features
    0x1c4..=0x1c5,             // extended feature disable
    0x200..=0x2ff,             // memory types
    0x400..=0x47f,             // machine check banks
    0x6a0..=0x6a8,             // control-flow enforcement
    0x6e0..=0x6e0,             // APIC timer's deadline
    0x800..=0x8ff,             // x2APIC
    0xda0..=0xda0,             // supervisor extended state
    0x4b56_4d00..=0x4b56_4d07, // KVM's own: clock, steal time, asynchronous page faults, polling
    0xc000_0080..=0xc000_0084, // long mode and SYSCALL
    0xc000_0100..=0xc000_0103, // FS, GS, kernel GS, TSC_AUX
    0xc001_001f..=0xc001_001f, // north bridge configuration: KVM ignores it
    0xc001_0140..=0xc001_0141, // OS-visible workarounds
    0xc001_011f..=0xc001_011f, // virtual speculation control
    0xc001_1022..=0xc001_1022, // data cache configuration: KVM ignores it
    0xc001_1029..=0xc001_102a, // serializing LFENCE; bus unit configuration, which KVM ignores
];

/// What guests may use.
pub(super) fn filter() -> MsrFilter {
    MsrFilter::new(&WINDOWS, &UNREADABLE, &WRITABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writable_register_lies_in_a_window_and_can_be_read() {
        for msr in WRITABLE.iter().cloned().flatten() {
            let inside =
                |window: &MsrWindow| (window.base..window.base + window.count).contains(&msr);
            assert!(WINDOWS.iter().any(inside), "{msr:#x}");
            assert!(
                !UNREADABLE.iter().any(|range| range.contains(&msr)),
                "{msr:#x}"
            );
        }
    }
}
