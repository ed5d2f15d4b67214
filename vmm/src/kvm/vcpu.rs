//! A virtual processor: running it, and getting it back out from another thread.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{CpuId, Msrs, kvm_regs, kvm_sregs};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::error::{KvmError, Result};

/// Why a processor came back from the guest.
pub(crate) enum Exit<'a> {
    /// Port input: fill the bytes.
    PortRead(u16, &'a mut [u8]),
    /// Port output.
    PortWrite(u16, &'a [u8]),
    /// Memory-mapped read: fill the bytes.
    MmioRead(u64, &'a mut [u8]),
    /// Memory-mapped write.
    MmioWrite(u64, &'a [u8]),
    /// An MSR that KVM does not know or the guest may not use; answered with #GP.
    Msr(MsrAccess),
    /// An end of interrupt that nobody waits for.
    EndOfInterrupt,
    /// Somebody wants the thread back.
    Kicked,
    /// Triple fault.
    Shutdown,
    /// KVM met guest code that it cannot run: see [`Vcpu::internal_error`].
    InternalError,
    /// The call itself failed.
    Failed(KvmError),
    /// Anything else, by its name.
    Unexpected(String),
}

/// Direction of a refused MSR access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MsrAccess {
    /// `rdmsr`.
    Read,
    /// `wrmsr`.
    Write,
}

/// A virtual processor, owned by its thread.
pub(crate) struct Vcpu {
    fd: VcpuFd,
}

impl Vcpu {
    pub(super) fn new(fd: VcpuFd) -> Self {
        Self { fd }
    }

    /// Sets what the `cpuid` instruction reports.
    pub(crate) fn set_cpuid(&self, cpuid: &CpuId) -> Result<()> {
        self.fd
            .set_cpuid2(cpuid)
            .map_err(KvmError::call("KVM_SET_CPUID2"))
    }

    /// Sets model-specific registers. All of them are known to KVM, so a short count is an error.
    pub(crate) fn set_msrs(&self, msrs: &Msrs) -> Result<()> {
        let wanted = msrs.as_slice().len();
        let done = self
            .fd
            .set_msrs(msrs)
            .map_err(KvmError::call("KVM_SET_MSRS"))?;
        if done == wanted {
            return Ok(());
        }
        let index = msrs.as_slice().get(done).map_or(0, |entry| entry.index);
        Err(KvmError::Call {
            call: "KVM_SET_MSRS",
            source: io::Error::other(format!("register {index:#x} was refused")),
        })
    }

    /// The system registers.
    pub(crate) fn sregs(&self) -> Result<kvm_sregs> {
        self.fd.get_sregs().map_err(KvmError::call("KVM_GET_SREGS"))
    }

    /// Sets the system registers.
    pub(crate) fn set_sregs(&self, sregs: &kvm_sregs) -> Result<()> {
        self.fd
            .set_sregs(sregs)
            .map_err(KvmError::call("KVM_SET_SREGS"))
    }

    /// The general registers.
    pub(crate) fn regs(&self) -> Result<kvm_regs> {
        self.fd.get_regs().map_err(KvmError::call("KVM_GET_REGS"))
    }

    /// Sets the general registers.
    pub(crate) fn set_regs(&self, regs: &kvm_regs) -> Result<()> {
        self.fd
            .set_regs(regs)
            .map_err(KvmError::call("KVM_SET_REGS"))
    }

    /// Runs the guest until it needs the VMM.
    pub(crate) fn run(&mut self) -> Exit<'_> {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead(port, data),
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite(port, data),
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MmioRead(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MmioWrite(address, data),
            Ok(VcpuExit::X86Rdmsr(access)) => {
                *access.error = 1;
                Exit::Msr(MsrAccess::Read)
            }
            Ok(VcpuExit::X86Wrmsr(access)) => {
                *access.error = 1;
                Exit::Msr(MsrAccess::Write)
            }
            Ok(VcpuExit::IoapicEoi(_)) => Exit::EndOfInterrupt,
            Ok(VcpuExit::Intr) => Exit::Kicked,
            Ok(VcpuExit::Shutdown) => Exit::Shutdown,
            Ok(VcpuExit::InternalError) => Exit::InternalError,
            Ok(other) => Exit::Unexpected(format!("{other:?}")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Kicked,
            Err(error) => Exit::Failed(KvmError::call("KVM_RUN")(error)),
        }
    }

    /// Lets KVM finish the instruction that led to the last exit, without running the next.
    pub(crate) fn complete_access(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // Comes back at once, which is an error to the call.
        drop(self.run());
        self.clear_kick();
    }

    /// What is known about an [`Exit::InternalError`] that has just happened.
    pub(crate) fn internal_error(&mut self) -> KvmError {
        let run = self.fd.get_kvm_run();
        #[expect(unsafe_code, reason = "kvm_run is a union")]
        // SAFETY: every bit pattern is a number, and an internal error fills this variant.
        let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
        KvmError::CannotRunKernels { suberror }
    }

    /// Tells the guest's clock that the processor was stopped, so that its watchdogs stay calm.
    pub(crate) fn clock_stood_still(&self) {
        // Fails if the guest does not use KVM's clock: then there is nothing to tell.
        if let Err(error) = self.fd.kvmclock_ctrl() {
            log::debug!("KVM_KVMCLOCK_CTRL: {error}");
        }
    }

    /// Forgets a kick that has been heeded.
    pub(crate) fn clear_kick(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// What other threads get this processor's thread out of the guest with. Called on that thread, and not used after
    /// the processor is dropped.
    pub(crate) fn kicker(&mut self) -> Kicker {
        Kicker {
            immediate_exit: NonNull::from(&mut self.fd.get_kvm_run().immediate_exit),
            thread: current_thread(),
        }
    }
}

#[expect(unsafe_code, reason = "pthread_self has no safe wrapper")]
fn current_thread() -> libc::pthread_t {
    // SAFETY: has no preconditions.
    unsafe { libc::pthread_self() }
}

/// Signal that interrupts `KVM_RUN`. Its handler does nothing.
fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Gets a processor's thread out of the guest: sets `immediate_exit` for a thread that is about to enter it, and signals one
/// that is inside.
pub(crate) struct Kicker {
    immediate_exit: NonNull<u8>,
    thread: libc::pthread_t,
}

#[expect(unsafe_code, reason = "a pointer into kvm_run crosses threads")]
// SAFETY: the byte is only accessed atomically, and the owner is withdrawn before its processor is dropped.
unsafe impl Send for Kicker {}

#[expect(unsafe_code, reason = "signals and the shared kvm_run page")]
impl Kicker {
    /// Installs the signal's empty handler. Once, before any processor runs.
    pub(crate) fn install() -> io::Result<()> {
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        vmm_sys_util::signal::register_signal_handler(kick_signal(), nothing)
            .map_err(io::Error::from)
    }

    /// Brings the thread out of the guest, or keeps it from entering, until it calls [`Vcpu::clear_kick`].
    pub(crate) fn kick(&self) {
        // SAFETY: whoever holds a kicker drops it before the processor (see `Vcpu::kicker`).
        let flag = unsafe { AtomicU8::from_ptr(self.immediate_exit.as_ptr()) };
        flag.store(1, Ordering::Release);
        // SAFETY: the thread has not ended, for the same reason.
        unsafe { libc::pthread_kill(self.thread, kick_signal()) };
    }
}
