//! The processors.

use super::BuildError;
use crate::arch::{CpuTemplate, Entry};
use crate::kvm::{Vcpu, Vm};

/// Makes `count` processors; the first one starts at `entry`.
pub(super) fn create(
    vm: &Vm,
    template: &mut CpuTemplate,
    count: u8,
    entry: Entry,
) -> Result<Vec<Vcpu>, BuildError> {
    (0..count)
        .map(|id| {
            let vcpu = vm.create_vcpu(id)?;
            template.prepare(&vcpu, id, entry)?;
            Ok(vcpu)
        })
        .collect()
}
