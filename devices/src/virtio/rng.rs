//! Entropy source (virtio 1.2, 5.4): fills what the driver offers from the host's generator.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::device::{Activation, DeviceType, NeedsReset, VirtioDevice};
use super::queue::{Chain, QueueError, RequestQueue};

const NAME: &str = "rng";
/// Its one queue is small: a driver asks again when it has used what it got.
const QUEUE_SIZES: [u16; 1] = [64];
/// Most bytes for one request. A request may get less than it has room for, so this bounds the time, and the host's work, that
/// one kick can cost.
const MAX_REQUEST: u64 = 64 * 1024;
/// Bytes taken from the host at once.
const BLOCK: usize = 256;

/// The device.
#[derive(Default)]
pub struct Rng {
    queue: Option<RequestQueue>,
    requests: u64,
    bytes: u64,
}

impl Rng {
    /// A device that has no driver yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn serve(&mut self) -> Result<(), QueueError> {
        let Some(queue) = &mut self.queue else {
            return Ok(());
        };
        while let Some(chain) = queue.pop()? {
            let written = fill(&chain)?;
            queue.complete(chain.head(), written)?;
            self.requests = self.requests.saturating_add(1);
            self.bytes = self.bytes.saturating_add(written.into());
        }
        queue.notify()
    }
}

/// Fills the request, or its first [`MAX_REQUEST`] bytes. Returns how many bytes it got.
fn fill(chain: &Chain) -> Result<u32, QueueError> {
    let wanted = chain.writable_len().min(MAX_REQUEST);
    let mut done = 0;
    while done < wanted {
        let mut block = [0; BLOCK];
        let room = usize::try_from(wanted.saturating_sub(done)).unwrap_or(BLOCK);
        let (part, _) = block.split_at_mut(room.min(BLOCK));
        match getrandom(&mut *part, GetRandomFlags::empty()) {
            Ok(got) if got > 0 => {
                let got = part.get(..got).unwrap_or_default();
                let written = chain.write_at(done, got)?;
                done = done.saturating_add(written as u64);
            }
            Err(Errno::INTR) => {}
            // The host has no generator: the driver gets what there was, at worst nothing.
            Ok(_) | Err(_) => break,
        }
    }
    Ok(u32::try_from(done).unwrap_or(0))
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        self.queue = activation.queues.into_iter().next().flatten();
        Ok(())
    }

    fn process_queue(&mut self, _index: usize) -> Result<(), NeedsReset> {
        self.serve().map_err(|error| NeedsReset::ring(NAME, &error))
    }

    fn reset(&mut self) {
        self.queue = None;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("requests", self.requests), ("bytes", self.bytes)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::mock::{Descriptor, Driver, HOLE, activate};

    #[test]
    fn requests_are_filled_up_to_the_limit() {
        let mut driver = Driver::new(16);
        let mut rng = Rng::new();
        activate(&mut rng, &[&driver]);
        let small = driver.room(300);
        let large = Descriptor::writable(0x8_0000, 0x4_0000);
        let heads = [driver.offer(&[small]), driver.offer(&[large])];
        rng.process_queue(0).unwrap();
        let used = driver.used();
        assert_eq!(used[0], (heads[0], 300));
        assert_eq!(used[1], (heads[1], 64 * 1024));
        assert_ne!(driver.read(small.address + 268, 32), vec![0; 32]);
        assert_eq!(driver.read(0x9_0000, 32), vec![0; 32]);
        assert_eq!(driver.interrupt.count(), 1);
        assert_eq!(rng.counters()[1], ("bytes", 300 + 64 * 1024));
    }

    #[test]
    fn a_bad_request_does_not_stop_the_next() {
        let mut driver = Driver::new(16);
        let mut rng = Rng::new();
        activate(&mut rng, &[&driver]);
        let bad = driver.offer(&[Descriptor::writable(HOLE - 8, 16)]);
        let readable = driver.buffer(&[7; 8]);
        let unusable = driver.offer(&[readable]);
        let room = driver.room(8);
        let good = driver.offer(&[room]);
        rng.process_queue(0).unwrap();
        assert_eq!(driver.used(), [(bad, 0), (unusable, 0), (good, 8)]);
        rng.reset();
        rng.process_queue(0).unwrap();
    }
}
