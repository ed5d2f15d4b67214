//! What the API may do to the machine that runs.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use devices::legacy::acpi::AcpiRegisters;
use devices::virtio::worker::{DeviceHandle, Worker, WorkerHandle};
use protocol::vmm_api::{Counters, VmInfo, VmState};

use super::control::{ControlError, RunState};
use super::{Control, Outcome};
use crate::api::Target;

/// How long a device's worker may take to stop: it finishes the requests it has begun.
const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// The machine, in the hands of the main thread.
pub(super) struct Operator<'a> {
    pub(super) control: &'a Control,
    /// Serves devices on this thread.
    pub(super) main: &'a mut Worker,
    /// Serve devices on threads of their own.
    pub(super) workers: &'a [WorkerHandle],
    /// All devices, by name.
    pub(super) devices: &'a [(String, DeviceHandle)],
    pub(super) acpi: &'a AcpiRegisters,
}

impl Operator<'_> {
    fn pause_devices(&mut self) -> Result<(), ControlError> {
        let stopped = |_| ControlError::DeviceBusy;
        self.main.pause().map_err(stopped)?;
        let waits: Result<Vec<Receiver<()>>, _> =
            self.workers.iter().map(WorkerHandle::pause).collect();
        let deadline = Instant::now() + PAUSE_LIMIT;
        for wait in waits.map_err(stopped)? {
            let left = deadline.saturating_duration_since(Instant::now());
            wait.recv_timeout(left)
                .map_err(|_| ControlError::DeviceBusy)?;
        }
        Ok(())
    }
}

impl Target for Operator<'_> {
    fn info(&self) -> VmInfo {
        let state = match self.control.state() {
            RunState::Running | RunState::Exiting => VmState::Running,
            RunState::Paused => VmState::Paused,
        };
        VmInfo {
            state,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
    }

    fn counters(&self) -> Counters {
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let devices = self.devices.iter().map(|(name, device)| {
            let counters = device.counters().into_iter().map(named).collect();
            (name.clone(), counters)
        });
        Counters {
            exits: self.control.exits().into_iter().map(named).collect(),
            devices: devices.collect(),
        }
    }

    /// Processors first: so no device is given new work while it stops.
    fn pause(&mut self) -> Result<(), ControlError> {
        self.control.pause()?;
        self.pause_devices()
            .or_else(|error| self.resume().and(Err(error)))
    }

    fn resume(&mut self) -> Result<(), ControlError> {
        let stopped = |_| ControlError::DeviceBusy;
        self.main.resume().map_err(stopped)?;
        for worker in self.workers {
            worker.resume().map_err(stopped)?;
        }
        self.control.resume()
    }

    fn power_button(&mut self) -> Result<(), ControlError> {
        match self.control.state() {
            RunState::Exiting => Err(ControlError::Ending),
            _ => self
                .acpi
                .press_power_button()
                .map_err(|_| ControlError::DeviceBusy),
        }
    }

    fn kill(&mut self) -> Result<(), ControlError> {
        self.control.end(Outcome::Killed);
        Ok(())
    }
}
