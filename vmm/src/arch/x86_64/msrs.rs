//! Model-specific registers that firmware would have set.

use kvm_bindings::{Msrs, kvm_msr_entry};

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
