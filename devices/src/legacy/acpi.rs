//! Registers of a hardware-reduced ACPI machine (ACPI 6.4, 4.8.3.7 and 5.6.9): sleep, reset, and the events behind the
//! generic event device.
//!
//! ```text
//!  offset  width  register         access
//!  0       1      sleep control    write: SLP_EN with the S5 type powers off
//!  1       1      sleep status     read: 0, no wake has happened
//!  2       1      reset            write: RESET_VALUE resets
//!  3       1      pending events   read: the bits, and clears them
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::MachineEvents;
use crate::bus::BusDevice;
use crate::irq::Interrupt;

/// Length of the register block in bytes.
pub const SIZE: u64 = 4;
/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u64 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u64 = 1;
/// Offset of the reset register.
pub const RESET: u64 = 2;
/// Offset of the pending events register.
pub const EVENTS: u64 = 3;
/// What resets the machine when it is written to the reset register.
pub const RESET_VALUE: u8 = 1;
/// Sleep type that means "off", as in the `_S5` object.
pub const S5_TYPE: u8 = 5;
/// Event bit: the power button was pressed.
pub const POWER_BUTTON: u8 = 1;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

/// The register block.
pub struct AcpiRegisters {
    machine: Arc<dyn MachineEvents>,
    interrupt: Arc<dyn Interrupt>,
    pending: AtomicU8,
}

impl AcpiRegisters {
    /// Registers that report to `machine` and raise `interrupt` for events.
    pub fn new(machine: Arc<dyn MachineEvents>, interrupt: Arc<dyn Interrupt>) -> Self {
        Self {
            machine,
            interrupt,
            pending: AtomicU8::new(0),
        }
    }

    /// Presses the power button: the guest decides what that means.
    pub fn press_power_button(&self) -> io::Result<()> {
        self.pending.fetch_or(POWER_BUTTON, Ordering::AcqRel);
        self.interrupt.trigger()
    }

    fn sleep(&self, value: u8) {
        let kind = (value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
        if value & SLEEP_ENABLE != 0 && kind == S5_TYPE {
            self.machine.power_off();
        }
    }
}

impl BusDevice for AcpiRegisters {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let [value] = data {
            *value = match offset {
                SLEEP_CONTROL | SLEEP_STATUS => 0,
                EVENTS => self.pending.swap(0, Ordering::AcqRel),
                _ => 0xff,
            };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (SLEEP_CONTROL, [value]) => self.sleep(*value),
            (RESET, [RESET_VALUE]) => self.machine.reset(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mock::Recorder;
    use super::*;

    fn registers() -> (Arc<Recorder>, AcpiRegisters) {
        let recorder = Arc::new(Recorder::default());
        (
            recorder.clone(),
            AcpiRegisters::new(recorder.clone(), recorder),
        )
    }

    #[test]
    fn only_s5_with_the_enable_bit_powers_off() {
        let (recorder, registers) = registers();
        for value in 0..=u8::MAX {
            registers.write(SLEEP_CONTROL, &[value]);
        }
        // Bits 0, 1, 6 and 7 are not looked at: sixteen values say "S5, now".
        assert_eq!(*recorder.events.lock().unwrap(), ["power off"; 16]);
    }

    #[test]
    fn only_the_reset_value_resets() {
        let (recorder, registers) = registers();
        registers.write(RESET, &[0]);
        registers.write(RESET, &[RESET_VALUE, 0]);
        assert!(recorder.events.lock().unwrap().is_empty());
        registers.write(RESET, &[RESET_VALUE]);
        assert_eq!(*recorder.events.lock().unwrap(), ["reset"]);
    }

    #[test]
    fn reading_the_pending_events_clears_them() {
        let (recorder, registers) = registers();
        registers.press_power_button().unwrap();
        assert_eq!(recorder.interrupts.load(Ordering::Relaxed), 1);
        for expected in [POWER_BUTTON, 0] {
            let mut data = [0xaa];
            registers.read(EVENTS, &mut data);
            assert_eq!(data, [expected]);
        }
    }
}
