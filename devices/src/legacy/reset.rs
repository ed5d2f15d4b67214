//! The one thing kernels still use of a PC's keyboard controller: pulsing the processor's reset line through port 0x64.
//!
//! Its status reads 0 (nothing pending), so that a kernel which waits for the controller does not wait.

use std::sync::Arc;

use super::MachineEvents;
use crate::bus::BusDevice;

/// Length of the register block in bytes.
pub const SIZE: u64 = 1;

/// Command that pulses the reset line.
const PULSE_RESET: u8 = 0xfe;

/// The command and status port.
pub struct KeyboardReset {
    machine: Arc<dyn MachineEvents>,
}

impl KeyboardReset {
    /// A port that reports to `machine`.
    pub fn new(machine: Arc<dyn MachineEvents>) -> Self {
        Self { machine }
    }
}

impl BusDevice for KeyboardReset {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if let [PULSE_RESET] = data {
            self.machine.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mock::Recorder;
    use super::*;

    #[test]
    fn only_the_pulse_command_resets() {
        let recorder = Arc::new(Recorder::default());
        let port = KeyboardReset::new(recorder.clone());
        for value in 0..=u8::MAX {
            port.write(0, &[value]);
        }
        assert_eq!(*recorder.events.lock().unwrap(), ["reset"]);
    }
}
