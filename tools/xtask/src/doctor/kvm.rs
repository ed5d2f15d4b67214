//! Whether this machine's KVM can run a kernel, and at what speed: found by running a loop in ring 0.
#![expect(unsafe_code, reason = "guest memory is given to KVM by address")]

use std::fmt;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm as Device, VcpuExit};

/// The rounds of the loop.
const ROUNDS: u32 = 1_000_000;
/// Real hardware takes under 1 ms; where guest kernel mode is emulated instruction by instruction it is 1 to 2 s.
const FAST: Duration = Duration::from_millis(50);
/// The loop is given up after this.
const LIMIT: Duration = Duration::from_secs(10);
const PAGE: usize = 4096;

/// What the probe found.
pub(crate) enum Kvm {
    /// Usable; the loop took this long.
    Fast(Duration),
    /// It runs kernels, but no kernel boots at that speed.
    Slow(Duration),
    /// It is there, and cannot run the loop.
    Broken(String),
    /// It cannot be opened.
    Missing(String),
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loops = "a million loops in guest kernel mode";
        match self {
            Self::Fast(time) => write!(f, "KVM is usable ({loops} take {:.1} ms)", millis(*time)),
            Self::Slow(time) => write!(
                f,
                "KVM is too slow here ({loops} take {:.0} ms)",
                millis(*time)
            ),
            Self::Broken(what) => write!(f, "KVM is broken here ({what})"),
            Self::Missing(what) => write!(f, "there is no KVM here ({what})"),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Runs the loop up to three times and judges the best.
pub(crate) fn probe() -> Kvm {
    if let Err(error) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        return Kvm::Missing(format!("/dev/kvm: {error}"));
    }
    let (sender, results) = mpsc::channel();
    // A KVM that never returns from the loop must not hold us: the thread is left behind.
    thread::spawn(move || {
        for _ in 0..3 {
            if sender.send(run_loop()).is_err() {
                return;
            }
        }
    });
    let mut best: Option<Duration> = None;
    while let Ok(result) = results.recv_timeout(LIMIT) {
        match result {
            Ok(time) if time <= FAST => return Kvm::Fast(time),
            Ok(time) => best = Some(best.map_or(time, |best| best.min(time))),
            Err(error) => return Kvm::Broken(error),
        }
    }
    best.map_or_else(
        || Kvm::Broken(format!("no result within {} s", LIMIT.as_secs())),
        Kvm::Slow,
    )
}

/// `mov ecx, ROUNDS; l: dec ecx; jnz l; hlt` in 32-bit protected mode.
fn code() -> [u8; 9] {
    let [a, b, c, d] = ROUNDS.to_le_bytes();
    [0xb9, a, b, c, d, 0x49, 0x75, 0xfd, 0xf4]
}

fn run_loop() -> Result<Duration, String> {
    let at = |what: &'static str| move |error: kvm_ioctls::Error| format!("{what}: {error}");
    // Twice a page has an aligned page in it.
    let mut memory = vec![0u8; 2 * PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    memory[start..][..code().len()].copy_from_slice(&code());
    let vm = Device::new()
        .and_then(|kvm| kvm.create_vm())
        .map_err(at("KVM_CREATE_VM"))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: PAGE as u64,
        userspace_addr: memory[start..].as_ptr() as u64,
    };
    // SAFETY: the page stays in `memory`, which outlives the virtual machine and is not touched while the machine runs.
    unsafe { vm.set_user_memory_region(region) }.map_err(at("KVM_SET_USER_MEMORY_REGION"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(at("KVM_CREATE_VCPU"))?;
    let mut sregs = vcpu.get_sregs().map_err(at("KVM_GET_SREGS"))?;
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        (segment.base, segment.limit, segment.g, segment.db) = (0, u32::MAX, 1, 1);
    }
    sregs.cs.type_ = 11;
    sregs.cr0 |= 1;
    vcpu.set_sregs(&sregs).map_err(at("KVM_SET_SREGS"))?;
    let mut regs = vcpu.get_regs().map_err(at("KVM_GET_REGS"))?;
    (regs.rip, regs.rflags) = (0, 2);
    vcpu.set_regs(&regs).map_err(at("KVM_SET_REGS"))?;
    let begin = Instant::now();
    let end = match vcpu.run().map_err(at("KVM_RUN"))? {
        VcpuExit::Hlt => Ok(begin.elapsed()),
        exit => Err(format!("the guest ended with {exit:?}")),
    };
    drop(vcpu);
    drop(vm);
    drop(memory);
    end
}
