//! Guest memory as KVM slots: one for each region.

use kvm_bindings::kvm_userspace_memory_region;
use vm_memory::{Address, GuestMemory, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use super::error::{KvmError, Result};
use super::vm::Vm;

impl Vm {
    /// Lets the guest see `memory`. The caller keeps it mapped for as long as a processor runs.
    pub(crate) fn map_memory(&self, memory: &GuestMemoryMmap) -> Result<()> {
        for (slot, region) in (0..).zip(memory.iter()) {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|_| KvmError::Lacks("host addresses of guest memory"))?;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host.addr() as u64,
            };
            #[expect(unsafe_code, reason = "KVM takes the mapping by address")]
            // SAFETY: the address and length are those of a live mapping that the caller keeps, and KVM refuses
            // overlapping slots.
            unsafe { self.fd.set_user_memory_region(region) }
                .map_err(KvmError::call("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(())
    }
}
