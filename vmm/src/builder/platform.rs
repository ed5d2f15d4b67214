//! The devices that every machine has: interrupt controller, serial port, and the registers by which a guest ends.

use std::io::{self, Write};
use std::sync::Arc;

use devices::bus::BusDevice;
use devices::irq::Interrupt;
use devices::legacy::acpi::{self, AcpiRegisters};
use devices::legacy::panic::{self, PanicRegister};
use devices::legacy::reset::{self, KeyboardReset};
use devices::legacy::serial::{self, SerialPort};

use super::{BuildError, Buses};
use crate::arch::{self, IoApic};
use crate::config::Output;
use crate::run::Control;

/// The platform's devices that somebody outside the buses needs.
pub(super) struct Platform {
    pub(super) acpi: Arc<AcpiRegisters>,
    pub(super) serial_input: Option<Arc<SerialPort>>,
}

/// Puts them on the buses.
pub(super) fn create(
    serial: Output,
    control: &Control,
    interrupts: &IoApic,
    buses: &Buses,
) -> Result<Platform, BuildError> {
    let port = |device, base: u16, size, registers: Arc<dyn BusDevice>| {
        buses
            .ports
            .insert(u64::from(base), size, registers)
            .map_err(|source| BuildError::Place { device, source })
    };
    let events = Arc::new(control.clone());

    let acpi = AcpiRegisters::new(events.clone(), line(interrupts, arch::EVENT_PIN)?);
    let acpi = Arc::new(acpi);
    port(
        "the ACPI registers",
        arch::ACPI_PORT,
        acpi::SIZE,
        acpi.clone(),
    )?;

    let keyboard = Arc::new(KeyboardReset::new(events.clone()));
    port(
        "the keyboard reset",
        arch::KEYBOARD_PORT,
        reset::SIZE,
        keyboard,
    )?;

    let panic = Arc::new(PanicRegister::new(events));
    port("pvpanic", arch::PANIC_PORT, panic::SIZE, panic)?;

    let input = matches!(serial, Output::Stdio);
    let uart = SerialPort::new(line(interrupts, arch::SERIAL_PIN)?, sink(serial));
    let uart = uart.map_err(|source| BuildError::Device {
        device: "the serial port",
        source,
    })?;
    let uart = Arc::new(uart);
    port(
        "the serial port",
        arch::SERIAL_PORT,
        serial::SIZE,
        uart.clone(),
    )?;
    Ok(Platform {
        acpi,
        serial_input: input.then_some(uart),
    })
}

fn line(interrupts: &IoApic, pin: u8) -> Result<Arc<dyn Interrupt>, BuildError> {
    interrupts.line(pin).ok_or_else(|| BuildError::Device {
        device: "the interrupt controller",
        source: io::Error::other(format!("nothing is wired to pin {pin}")),
    })
}

fn sink(output: Output) -> Box<dyn Write + Send> {
    match output {
        Output::Stdio => Box::new(io::stdout()),
        Output::File(file) => Box::new(file),
        Output::None => Box::new(io::sink()),
    }
}
