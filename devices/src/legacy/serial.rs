//! A 16550A serial port (the `vm-superio` model) on a bus.
//!
//! Input is bounded by the UART's own FIFO: whoever feeds it asks [`SerialPort::room`] first and otherwise waits until
//! [`SerialPort::drained`] is signalled, so bytes that the guest does not read stay with their sender.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::BusDevice;
use crate::irq::Interrupt;

/// Length of the register block in bytes.
pub const SIZE: u64 = 8;

struct Line(Arc<dyn Interrupt>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.trigger()
    }
}

struct Drained(Arc<EventFd>);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        // A full counter is a pending signal already.
        drop(self.0.write(1));
    }
}

type Uart = Serial<Line, Drained, Box<dyn Write + Send>>;

/// The port.
pub struct SerialPort {
    uart: Mutex<Uart>,
    drained: Arc<EventFd>,
}

impl SerialPort {
    /// A port that raises `interrupt` and writes what the guest sends to `output`. Bytes that `output` refuses are lost.
    pub fn new(interrupt: Arc<dyn Interrupt>, output: Box<dyn Write + Send>) -> io::Result<Self> {
        let drained = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let uart = Serial::with_events(Line(interrupt), Drained(drained.clone()), output);
        Ok(Self {
            uart: Mutex::new(uart),
            drained,
        })
    }

    /// How many bytes of input fit now.
    pub fn room(&self) -> usize {
        self.lock().fifo_capacity()
    }

    /// Gives the guest input. Returns how many bytes were taken.
    pub fn input(&self, bytes: &[u8]) -> usize {
        // Full, or no interrupt: the bytes stay with the caller.
        self.lock().enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// Signalled when the guest has read all input.
    #[must_use]
    pub fn drained(&self) -> &EventFd {
        &self.drained
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            *value = self.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            // Output that cannot be written is lost, as on a line that nobody listens to.
            drop(self.lock().write(offset, *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::super::mock::Recorder;
    use super::*;

    struct Pipe(Sender<u8>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for byte in bytes {
                self.0.send(*byte).map_err(io::Error::other)?;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn output_passes_byte_by_byte() {
        let (sender, receiver) = channel();
        let port = SerialPort::new(Arc::new(Recorder::default()), Box::new(Pipe(sender))).unwrap();
        for byte in *b"hi" {
            port.write(0, &[byte]);
        }
        port.write(0, b"wide");
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), b"hi");
    }

    #[test]
    fn input_stops_at_the_fifo_and_its_end_is_signalled() {
        let port = SerialPort::new(Arc::new(Recorder::default()), Box::new(io::sink())).unwrap();
        let room = port.room();
        let flood = vec![b'x'; 1 << 20];
        assert_eq!(port.input(&flood), room);
        assert_eq!(port.input(&flood), 0);
        assert!(port.drained().read().is_err());
        for _ in 0..room {
            port.read(0, &mut [0]);
        }
        assert_eq!(port.drained().read().unwrap(), 1);
        assert_eq!(port.room(), room);
    }
}
