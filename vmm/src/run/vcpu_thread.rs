//! A processor's thread: runs the guest, serves its register accesses, until the machine ends.

use devices::memory::GuestMemory;
use vm_memory::GuestAddressSpace;

use super::Outcome;
use super::control::{Control, Gate};
use super::counters::Reason;
use super::main_loop::confined;
use crate::arch::{self, ProbeError};
use crate::builder::Buses;
use crate::confine::ThreadKind;
use crate::error::chain;
use crate::kvm::{Exit, MsrAccess, Vcpu};

/// Runs processor `id` until the machine ends. The first one shows before that this host can run guest kernels: on this thread, because
/// KVM waits for a grace period of the host's kernel when another thread takes a processor over.
pub(super) fn run(
    id: usize,
    mut vcpu: Vcpu,
    memory: &GuestMemory,
    buses: &Buses,
    control: &Control,
) {
    if id == 0
        && let Err(error) = arch::probe(&mut vcpu, &memory.memory())
    {
        return control.end(match error {
            ProbeError::Kvm(error) => Outcome::Kvm(error),
            ProbeError::Memory(_) => Outcome::Unexpected(chain(&error)),
        });
    }
    confined(ThreadKind::Vcpu, control, || {
        control.enlist(id, &mut vcpu);
        serve(id, &mut vcpu, buses, control);
        control.retire(id);
    });
}

fn serve(id: usize, vcpu: &mut Vcpu, buses: &Buses, control: &Control) {
    let Some(counters) = control.counters(id) else {
        return;
    };
    let mut gate = control.gate();
    loop {
        match gate {
            Gate::Run => {}
            Gate::RunAfterPause => vcpu.clock_stood_still(),
            Gate::End => return,
        }
        let (reason, end) = leave(vcpu, buses);
        counters.count(reason);
        if let Some(outcome) = end {
            control.end(outcome);
        }
        gate = match reason {
            Reason::Kicked => {
                vcpu.clear_kick();
                control.gate()
            }
            _ => Gate::Run,
        };
    }
}

/// Runs the guest once, and does what it came back for.
fn leave(vcpu: &mut Vcpu, buses: &Buses) -> (Reason, Option<Outcome>) {
    let reason = match vcpu.run() {
        Exit::PortRead(port, data) => {
            buses.ports.read(u64::from(port), data);
            Reason::PortRead
        }
        Exit::PortWrite(port, data) => {
            buses.ports.write(u64::from(port), data);
            Reason::PortWrite
        }
        Exit::MmioRead(address, data) => {
            buses.mmio.read(address, data);
            Reason::MmioRead
        }
        Exit::MmioWrite(address, data) => {
            buses.mmio.write(address, data);
            Reason::MmioWrite
        }
        Exit::Msr(MsrAccess::Read) => Reason::MsrRead,
        Exit::Msr(MsrAccess::Write) => Reason::MsrWrite,
        Exit::EndOfInterrupt => Reason::EndOfInterrupt,
        Exit::Kicked => Reason::Kicked,
        Exit::Shutdown => return (Reason::Other, Some(Outcome::TripleFault)),
        Exit::InternalError => {
            return (Reason::Other, Some(Outcome::Kvm(vcpu.internal_error())));
        }
        Exit::Failed(error) => return (Reason::Other, Some(Outcome::Kvm(error))),
        Exit::Unexpected(exit) => return (Reason::Other, Some(Outcome::Unexpected(exit))),
    };
    (reason, None)
}
