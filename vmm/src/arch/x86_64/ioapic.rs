//! The I/O APIC, as far as a machine needs it whose only wired interrupts are edge-triggered: a redirection entry is the
//! message that its pin sends (Intel 82093AA, 3.2).
//!
//! It has no more pins than devices use. Kernels read and write every entry several times as they start, by two registers and
//! therefore two exits each time: with the 24 pins of the original, that was a quarter of all exits of a boot.

use std::sync::{Arc, Mutex};

use devices::bus::BusDevice;
use devices::irq::{Interrupt, MsiMessage, MsiRouter, MsiVector};

/// The highest pin that a device is wired to.
const LAST_PIN: u8 = 5;
const PINS: usize = LAST_PIN as usize + 1;

/// Offsets of the two registers that can be addressed.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Registers behind the window.
const ID: u8 = 0;
const VERSION: u8 = 1;
const REDIRECTION: u8 = 0x10;
/// Version 0x11, and the number of the last entry.
const VERSION_VALUE: u32 = 0x11 | (LAST_PIN as u32) << 16;

const MASKED: u32 = 1 << 16;
/// Vector, delivery mode and destination mode, polarity, trigger mode, mask: what a driver can write.
const WRITABLE: u32 = 0x1_afff;
const LOGICAL_DESTINATION: u32 = 1 << 11;
/// Vector and delivery mode stand in message data where they stand in the entry.
const MESSAGE_DATA: u32 = 0x7ff;
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

#[derive(Clone, Copy)]
struct Entry {
    low: u32,
    high: u32,
}

impl Entry {
    fn message(self) -> MsiMessage {
        let destination = u64::from(self.high >> 24) << 12;
        let logical = u64::from(self.low & LOGICAL_DESTINATION != 0) << 2;
        MsiMessage {
            address: MESSAGE_ADDRESS | destination | logical,
            data: self.low & MESSAGE_DATA,
        }
    }
}

struct Registers {
    select: u8,
    id: u32,
    entries: [Entry; PINS],
}

/// The I/O APIC.
pub(crate) struct IoApic {
    registers: Mutex<Registers>,
    /// The pins that something is wired to.
    lines: Vec<(u8, Arc<dyn MsiVector>)>,
}

impl IoApic {
    /// An I/O APIC with something wired to `pins`.
    pub(crate) fn new(pins: &[u8], router: &dyn MsiRouter) -> std::io::Result<Self> {
        let count = u16::try_from(pins.len()).unwrap_or(u16::MAX);
        let vectors = router.allocate(count)?;
        let entry = Entry {
            low: MASKED,
            high: 0,
        };
        Ok(Self {
            registers: Mutex::new(Registers {
                select: 0,
                id: 0,
                entries: [entry; PINS],
            }),
            lines: pins
                .iter()
                .copied()
                .zip(vectors.into_iter().map(Arc::from))
                .collect(),
        })
    }

    /// What raises `pin`, if something is wired to it.
    pub(crate) fn line(&self, pin: u8) -> Option<Arc<dyn Interrupt>> {
        let (_, vector) = self.lines.iter().find(|(wired, _)| *wired == pin)?;
        Some(Arc::new(Line(vector.clone())))
    }

    fn write_register(&self, registers: &mut Registers, value: u32) {
        if registers.select == ID {
            registers.id = value & 0x0f00_0000;
            return;
        }
        let Some((pin, high)) = redirection(registers.select) else {
            return;
        };
        let Some(entry) = registers.entries.get_mut(usize::from(pin)) else {
            return;
        };
        if high {
            entry.high = value & 0xff00_0000;
        } else {
            entry.low = value & WRITABLE;
        }
        if let Some((_, vector)) = self.lines.iter().find(|(wired, _)| *wired == pin)
            && let Err(error) = vector.configure(entry.message(), entry.low & MASKED != 0)
        {
            log::warn!("interrupt pin {pin} cannot be routed: {error}");
        }
    }
}

/// Pin, and whether it is the entry's high half.
fn redirection(select: u8) -> Option<(u8, bool)> {
    let index = select.checked_sub(REDIRECTION)?;
    Some((index / 2, index % 2 == 1))
}

fn read_register(registers: &Registers) -> u32 {
    match registers.select {
        ID => registers.id,
        VERSION => VERSION_VALUE,
        select => redirection(select)
            .and_then(|(pin, high)| Some((registers.entries.get(usize::from(pin))?, high)))
            .map_or(0, |(entry, high)| if high { entry.high } else { entry.low }),
    }
}

impl BusDevice for IoApic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let registers = self
            .registers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let value = match offset {
            SELECT => u32::from(registers.select),
            WINDOW => read_register(&registers),
            _ => u32::MAX,
        };
        data.fill(0xff);
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut registers = self
            .registers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match (offset, data) {
            (SELECT, [select, ..]) => registers.select = *select,
            (WINDOW, [b0, b1, b2, b3]) => {
                let value = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
                self.write_register(&mut registers, value);
            }
            _ => {}
        }
    }
}

/// A pin as the device behind it sees it.
struct Line(Arc<dyn MsiVector>);

impl Interrupt for Line {
    fn trigger(&self) -> std::io::Result<()> {
        self.0.trigger()
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    struct MockVector {
        event: EventFd,
        seen: Arc<Mutex<Vec<(MsiMessage, bool)>>>,
    }

    impl Interrupt for MockVector {
        fn trigger(&self) -> std::io::Result<()> {
            self.event.write(1)
        }
    }

    impl MsiVector for MockVector {
        fn configure(&self, message: MsiMessage, masked: bool) -> std::io::Result<()> {
            self.seen.lock().unwrap().push((message, masked));
            Ok(())
        }
        fn eventfd(&self) -> &EventFd {
            &self.event
        }
    }

    #[derive(Default)]
    struct MockRouter(Arc<Mutex<Vec<(MsiMessage, bool)>>>);

    impl MsiRouter for MockRouter {
        fn allocate(&self, count: u16) -> std::io::Result<Vec<Box<dyn MsiVector>>> {
            (0..count)
                .map(|_| {
                    Ok(Box::new(MockVector {
                        event: EventFd::new(EFD_NONBLOCK)?,
                        seen: self.0.clone(),
                    }) as Box<dyn MsiVector>)
                })
                .collect()
        }
    }

    fn write(ioapic: &IoApic, register: u8, value: u32) {
        ioapic.write(SELECT, &u32::from(register).to_le_bytes());
        ioapic.write(WINDOW, &value.to_le_bytes());
    }

    fn read(ioapic: &IoApic, register: u8) -> u32 {
        ioapic.write(SELECT, &u32::from(register).to_le_bytes());
        let mut data = [0; 4];
        ioapic.read(WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn an_unmasked_entry_becomes_a_message() {
        let router = MockRouter::default();
        let ioapic = IoApic::new(&[4], &router).unwrap();
        write(&ioapic, REDIRECTION + 9, 0x0200_0000);
        write(&ioapic, REDIRECTION + 8, 0x831);
        let message = MsiMessage {
            address: 0xfee0_2004,
            data: 0x31,
        };
        assert_eq!(router.0.lock().unwrap().last(), Some(&(message, false)));
        assert!(ioapic.line(4).is_some());
        assert!(ioapic.line(5).is_none());
    }

    #[test]
    fn every_register_takes_any_value() {
        let router = MockRouter::default();
        let ioapic = IoApic::new(&[4, 5], &router).unwrap();
        for register in 0..=u8::MAX {
            write(&ioapic, register, u32::MAX);
        }
        assert_eq!(read(&ioapic, VERSION), 0x05_0011);
        assert_eq!(read(&ioapic, REDIRECTION), WRITABLE);
        assert_eq!(read(&ioapic, REDIRECTION + 1), 0xff00_0000);
        assert_eq!(read(&ioapic, REDIRECTION + 12), 0);
        for len in [1, 2, 8] {
            ioapic.write(WINDOW, &vec![0xff; len]);
            ioapic.read(SELECT, &mut vec![0; len]);
        }
    }
}
