//! Doorbells: guest writes that become eventfd signals inside the kernel.

use std::io;

use devices::irq::Doorbells;
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use vmm_sys_util::eventfd::EventFd;

use super::vm::Vm;

/// Doorbells backed by KVM's ioeventfds.
pub(crate) struct KvmDoorbells {
    vm: Vm,
}

impl KvmDoorbells {
    pub(super) fn new(vm: Vm) -> Self {
        Self { vm }
    }
}

impl Doorbells for KvmDoorbells {
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        self.vm
            .fd
            .register_ioevent(event, &address, NoDatamatch)
            .map_err(io::Error::from)
    }

    fn unregister(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        self.vm
            .fd
            .unregister_ioevent(event, &address, NoDatamatch)
            .map_err(io::Error::from)
    }
}
