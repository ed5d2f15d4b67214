//! Interrupt causes: the ISR status byte, and the MSI-X vector the driver chose for each (virtio 1.2, 4.1.4.5, 4.1.5.1.2).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::irq::Interrupt;
use crate::pci::msix::Msix;

/// Vector number that stands for "no interrupt".
pub(super) const NO_VECTOR: u16 = 0xffff;

/// What a device interrupts for.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Cause {
    /// A queue has used buffers.
    Queue = 1 << 0,
    /// The configuration, or the status, changed.
    Config = 1 << 1,
}

/// The ISR status byte.
#[derive(Default)]
pub(super) struct IsrStatus(AtomicU8);

impl IsrStatus {
    /// The driver's read, which clears it.
    pub(super) fn take(&self) -> u8 {
        self.0.swap(0, Ordering::AcqRel)
    }
}

/// One interrupt as it was configured when the device was activated: later writes of the driver do not reach it.
pub(super) struct VirtioInterrupt {
    pub(super) msix: Arc<Msix>,
    pub(super) isr: Arc<IsrStatus>,
    pub(super) vector: u16,
    pub(super) cause: Cause,
}

impl Interrupt for VirtioInterrupt {
    fn trigger(&self) -> io::Result<()> {
        self.isr.0.fetch_or(self.cause as u8, Ordering::AcqRel);
        // There is no vector with the number NO_VECTOR.
        self.msix.trigger(self.vector)
    }
}
