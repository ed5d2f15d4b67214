//! The virtual machine as KVM sees it: memory slots, a local APIC for each processor, nothing else in the kernel.

use std::io;
use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_IOEVENTFD,
    KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_CAP_IRQFD, KVM_CAP_MP_STATE, KVM_CAP_SPLIT_IRQCHIP,
    KVM_CAP_USER_MEMORY, KVM_CAP_X86_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR, KVM_MAX_CPUID_ENTRIES,
    kvm_enable_cap,
};
use kvm_ioctls::{Cap, Kvm, MsrExitReason, VmFd};

use super::error::{KvmError, Result};
use super::vcpu::Vcpu;
use super::{KvmDoorbells, KvmMsiRouter};

/// What the machine is built on. Checked one by one, so that the message names what is missing.
const REQUIRED: [(u32, &str); 10] = [
    (KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
    (KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"),
    (KVM_CAP_IRQFD, "KVM_CAP_IRQFD"),
    (KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"),
    (KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH"),
    (KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"),
    (KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"),
    (KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    (KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"),
    (KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"),
];

/// Redirection entries that KVM reserves routes for, as many as an 82093AA has; message routes get numbers above them.
pub(super) const IOAPIC_PINS: u32 = 24;

/// Three pages that processors without unrestricted guest mode need, above everything else below 4 GiB.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// `/dev/kvm`, open and sufficient.
pub(crate) struct Host {
    kvm: Kvm,
}

impl Host {
    /// Opens `/dev/kvm` and checks that it can do what husk needs.
    pub(crate) fn open() -> Result<Self> {
        let kvm = Kvm::new().map_err(|error| match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmError::Missing,
            libc::EACCES | libc::EPERM => KvmError::Permission,
            errno => KvmError::Open(io::Error::from_raw_os_error(errno)),
        })?;
        for (cap, name) in REQUIRED {
            if kvm.check_extension_raw(cap.into()) <= 0 {
                return Err(KvmError::Lacks(name));
            }
        }
        Ok(Self { kvm })
    }

    /// What processors of this host can be given.
    pub(crate) fn supported_cpuid(&self) -> Result<CpuId> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::call("KVM_GET_SUPPORTED_CPUID"))
    }

    /// Whether the local APIC's timer has the deadline mode.
    pub(crate) fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    /// A new machine without memory or processors.
    pub(crate) fn create_vm(&self) -> Result<Vm> {
        let fd = self
            .kvm
            .create_vm()
            .map_err(KvmError::call("KVM_CREATE_VM"))?;
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(KvmError::call("KVM_SET_TSS_ADDR"))?;
        let vm = Vm { fd: Arc::new(fd) };
        vm.enable(KVM_CAP_SPLIT_IRQCHIP, u64::from(IOAPIC_PINS))?;
        // What KVM does not know, the VMM answers: counted, refused with #GP, and without a line in the host's log.
        let reasons = MsrExitReason::Unknown | MsrExitReason::Inval | MsrExitReason::Filter;
        vm.enable(KVM_CAP_X86_USER_SPACE_MSR, u64::from(reasons.bits()))?;
        Ok(vm)
    }
}

/// A machine. Cheap to clone: all clones are the same machine.
#[derive(Clone)]
pub(crate) struct Vm {
    pub(super) fd: Arc<VmFd>,
}

impl Vm {
    fn enable(&self, cap: u32, argument: u64) -> Result<()> {
        let request = kvm_enable_cap {
            cap,
            args: [argument, 0, 0, 0],
            ..Default::default()
        };
        self.fd
            .enable_cap(&request)
            .map_err(KvmError::call("KVM_ENABLE_CAP"))
    }

    /// A new processor.
    pub(crate) fn create_vcpu(&self, id: u8) -> Result<Vcpu> {
        self.fd
            .create_vcpu(u64::from(id))
            .map(Vcpu::new)
            .map_err(KvmError::call("KVM_CREATE_VCPU"))
    }

    /// What devices get their message interrupts from.
    pub(crate) fn msi_router(&self) -> KvmMsiRouter {
        KvmMsiRouter::new(self.clone())
    }

    /// What devices register their doorbells with.
    pub(crate) fn doorbells(&self) -> KvmDoorbells {
        KvmDoorbells::new(self.clone())
    }
}
