//! PID 1 of a husk guest: sets the guest up, serves the host's calls over vsock, and reaps.
//!
//! May use `protocol`, and libcontainer for the containers. Blocking threads with small stacks, no async runtime.
//!
//! ```text
//!  host --calls----> rpc/listen -> rpc/serve -> container/*  --socket--> helper -> libcontainer -> container
//!  host --streams--> rpc/streams -> stdio <--pipes, terminals---------------------------------------'
//!                                    boot/reaper <--------------------exit statuses-----------------'
//! ```

mod boot;
mod container;
mod network;
mod rpc;
mod stdio;

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boot::{mounts, poweroff, root};
use container::{Containers, Failure, helper, id_maps};
use protocol::rpc::ErrorCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        if std::env::args().next().as_deref() == Some(helper::HELPER_NAME) {
            return helper::main();
        }
        let mut arguments = std::env::args();
        let name = arguments.next().unwrap_or_default();
        if let Some(file) = id_maps::file(&name) {
            return id_maps::main(file, &arguments.collect::<Vec<_>>());
        }
        poweroff::say("husk-agent: only runs as PID 1 of a husk guest");
        return ExitCode::from(2);
    }
    poweroff::instead_of_panicking();
    let Err(error) = boot();
    let failure = Failure::caused(ErrorCode::Internal, &*error);
    poweroff::say(&format!("husk-agent: {}", failure.message()));
    poweroff::say(&format!(
        "husk-agent: cannot power off: {}",
        poweroff::power_off()
    ));
    ExitCode::FAILURE
}

/// In order; nothing that a call can wait for comes before the calls are served.
fn boot() -> Result<Infallible, Box<dyn Error>> {
    let root = root::leave_initramfs()?;
    mounts::mount_all(root)?;
    std::fs::write("/proc/self/oom_score_adj", "-1000")?;
    network::loopback_up()?;
    let containers = Arc::new(Containers::default());
    rpc::listen::start(&containers)?;
    containers.reaper().run()
}

/// Locks, also when a thread has panicked meanwhile: the agent does not outlive a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
