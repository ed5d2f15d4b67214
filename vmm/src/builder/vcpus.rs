//! The processors.

use vm_memory::GuestMemoryMmap;

use super::BuildError;
use crate::arch::{self, CpuTemplate, Entry};
use crate::kvm::{Vcpu, Vm};

/// Makes `count` processors; the first one starts at `entry`, once it has shown that this host can run guest kernels.
pub(super) fn create(
    vm: &Vm,
    template: &mut CpuTemplate,
    count: u8,
    entry: Entry,
    memory: &GuestMemoryMmap,
) -> Result<Vec<Vcpu>, BuildError> {
    let mut vcpus = (0..count)
        .map(|id| {
            let vcpu = vm.create_vcpu(id)?;
            template.prepare(&vcpu, id, entry)?;
            Ok(vcpu)
        })
        .collect::<Result<Vec<_>, BuildError>>()?;
    if let Some(first) = vcpus.first_mut() {
        arch::probe(first, memory)?;
    }
    Ok(vcpus)
}
