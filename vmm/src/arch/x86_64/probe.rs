//! Can this host's KVM run guest kernels?
//!
//! Some hosts offer a `/dev/kvm` that emulates kernel mode instruction by instruction: far too slowly for any guest, and not all
//! of them. One of those it does not know is tried here, so that such a host is refused at once and not after minutes.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::kvm::{Exit, KvmError, Vcpu};

/// Where the probe lies: below the boot data, in RAM that every kernel takes for empty.
const ADDRESS: u64 = 0x1000;

/// `popcnt eax, eax; out 0x80, al`, in 32-bit as in 64-bit mode. All processors with virtualization of the last fifteen years have it.
const CODE: [u8; 6] = [0xf3, 0x0f, 0xb8, 0xc0, 0xe6, 0x80];

/// Why the probe could not be carried out, or what it found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The host is not usable.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// There is no RAM where the probe lies.
    #[error("cannot place the probe of KVM")]
    Memory(#[from] GuestMemoryError),
}

/// Runs the probe on a processor that is ready to start, and leaves it so.
pub(crate) fn probe(vcpu: &mut Vcpu, memory: &GuestMemoryMmap) -> Result<(), ProbeError> {
    memory.write_slice(&CODE, GuestAddress(ADDRESS))?;
    let start = vcpu.regs()?;
    let mut regs = start;
    regs.rip = ADDRESS;
    vcpu.set_regs(&regs)?;
    let outcome = match vcpu.run() {
        Exit::PortWrite(0x80, _) => Ok(()),
        Exit::InternalError => Err(vcpu.internal_error()),
        Exit::Failed(error) => Err(error),
        _ => Err(KvmError::Lacks("the ability to run guest kernels")),
    };
    outcome?;
    vcpu.complete_access();
    vcpu.set_regs(&start)?;
    memory.write_slice(&[0; CODE.len()], GuestAddress(ADDRESS))?;
    Ok(())
}
