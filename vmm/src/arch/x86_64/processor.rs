//! Puts a virtual processor into the state it starts in.

use kvm_bindings::CpuId;

use super::start::Entry;
use super::{cpuid, msrs, regs};
use crate::kvm::{Host, KvmError, MsrFilter, Vcpu};

/// What all processors of a machine have in common.
pub(crate) struct CpuTemplate {
    cpuid: CpuId,
    count: u8,
}

impl CpuTemplate {
    /// What `host` offers, less what husk keeps from guests, for `count` processors.
    pub(crate) fn new(host: &Host, count: u8) -> Result<Self, KvmError> {
        let mut cpuid = host.supported_cpuid()?;
        cpuid::restrict(&mut cpuid, host.has_tsc_deadline());
        Ok(Self { cpuid, count })
    }

    /// What processors' model-specific registers a guest may use.
    pub(crate) fn msr_filter(&self) -> MsrFilter {
        msrs::filter()
    }

    /// Bits of a guest-physical address.
    pub(crate) fn address_bits(&self) -> u32 {
        cpuid::address_bits(&self.cpuid)
    }

    /// Prepares processor `id`. The first one starts at `entry`, the others wait for it.
    pub(crate) fn prepare(&mut self, vcpu: &Vcpu, id: u8, entry: Entry) -> Result<(), KvmError> {
        cpuid::number(&mut self.cpuid, id, self.count);
        vcpu.set_cpuid(&self.cpuid)?;
        if let Some(msrs) = msrs::initial() {
            vcpu.set_msrs(&msrs)?;
        }
        if id == 0 {
            let mut sregs = vcpu.sregs()?;
            regs::system(entry, &mut sregs);
            vcpu.set_sregs(&sregs)?;
            vcpu.set_regs(&regs::general(entry))?;
        }
        Ok(())
    }
}
