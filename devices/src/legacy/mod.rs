//! The few devices that are not PCI functions: a serial port, and the registers by which a guest ends or reports a panic.

pub mod acpi;
pub mod panic;
pub mod reset;
pub mod serial;

/// What a guest asks of the whole machine. Called on a processor's thread; must not block.
pub trait MachineEvents: Send + Sync {
    /// The guest has powered itself off.
    fn power_off(&self);
    /// The guest wants to be reset.
    fn reset(&self);
    /// The guest's kernel has panicked.
    fn panicked(&self);
}

#[cfg(test)]
pub(crate) mod mock {
    //! Records what a device asked for.

    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::irq::Interrupt;

    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) events: Mutex<Vec<&'static str>>,
        pub(crate) interrupts: AtomicU32,
    }

    impl super::MachineEvents for Recorder {
        fn power_off(&self) {
            self.events.lock().unwrap().push("power off");
        }
        fn reset(&self) {
            self.events.lock().unwrap().push("reset");
        }
        fn panicked(&self) {
            self.events.lock().unwrap().push("panicked");
        }
    }

    impl Interrupt for Recorder {
        fn trigger(&self) -> io::Result<()> {
            self.interrupts.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
}
