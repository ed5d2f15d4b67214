//! pvpanic: one register by which a guest's kernel says that it has panicked (QEMU `docs/specs/pvpanic`).

use std::sync::Arc;

use super::MachineEvents;
use crate::bus::BusDevice;

/// Length of the register block in bytes.
pub const SIZE: u64 = 1;

/// Event bit: the kernel has panicked and nothing in the guest handles it.
const PANICKED: u8 = 1;

/// The register.
pub struct PanicRegister {
    machine: Arc<dyn MachineEvents>,
}

impl PanicRegister {
    /// A register that reports to `machine`.
    pub fn new(machine: Arc<dyn MachineEvents>) -> Self {
        Self { machine }
    }
}

impl BusDevice for PanicRegister {
    /// Reads as the events that are understood.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(PANICKED);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|value| value & PANICKED != 0) {
            self.machine.panicked();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mock::Recorder;
    use super::*;

    #[test]
    fn other_events_are_not_a_panic() {
        let recorder = Arc::new(Recorder::default());
        let register = PanicRegister::new(recorder.clone());
        register.write(0, &[0xfe]);
        assert!(recorder.events.lock().unwrap().is_empty());
        register.write(0, &[PANICKED]);
        assert_eq!(*recorder.events.lock().unwrap(), ["panicked"]);
    }
}
