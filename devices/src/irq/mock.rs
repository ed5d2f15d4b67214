//! Vectors and doorbells that record what is done to them, for unit tests and fuzzing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Doorbells, Interrupt, MsiMessage, MsiRouter, MsiVector};

/// What became of one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VectorRecord {
    /// Its last route.
    pub message: MsiMessage,
    /// Whether that was masked.
    pub masked: bool,
    /// Triggers.
    pub triggered: u64,
    /// Triggers that the real thing would have lost: masked, or never configured.
    pub lost: u64,
    /// Calls of `configure`.
    pub configured: u64,
}

/// All vectors a [`RecordingRouter`] gave out.
pub type Vectors = Arc<Mutex<Vec<VectorRecord>>>;

struct RecordingVector {
    index: usize,
    records: Vectors,
    event: EventFd,
}

impl Interrupt for RecordingVector {
    fn trigger(&self) -> io::Result<()> {
        let mut records = self.records.lock().expect("no panic under the lock");
        let record = &mut records[self.index];
        if record.configured == 0 || record.masked {
            record.lost += 1;
        } else {
            record.triggered += 1;
        }
        Ok(())
    }
}

impl MsiVector for RecordingVector {
    fn configure(&self, message: MsiMessage, masked: bool) -> io::Result<()> {
        let mut records = self.records.lock().expect("no panic under the lock");
        let record = &mut records[self.index];
        record.message = message;
        record.masked = masked;
        record.configured += 1;
        Ok(())
    }

    fn eventfd(&self) -> &EventFd {
        &self.event
    }
}

/// Gives out vectors that record.
#[derive(Default)]
pub struct RecordingRouter {
    /// What became of them.
    pub vectors: Vectors,
}

impl MsiRouter for RecordingRouter {
    fn allocate(&self, count: u16) -> io::Result<Vec<Box<dyn MsiVector>>> {
        let mut records = self.vectors.lock().expect("no panic under the lock");
        (0..count)
            .map(|_| {
                records.push(VectorRecord::default());
                Ok(Box::new(RecordingVector {
                    index: records.len() - 1,
                    records: self.vectors.clone(),
                    event: EventFd::new(EFD_NONBLOCK)?,
                }) as Box<dyn MsiVector>)
            })
            .collect()
    }
}

/// Doorbells by address, as the kernel would have them.
#[derive(Default)]
pub struct RecordingDoorbells {
    registered: Mutex<BTreeMap<u64, EventFd>>,
}

impl RecordingDoorbells {
    /// Addresses of all doorbells.
    #[must_use]
    pub fn addresses(&self) -> Vec<u64> {
        let registered = self.registered.lock().expect("no panic under the lock");
        registered.keys().copied().collect()
    }

    /// What a guest's write to `address` does. Returns whether there was a doorbell.
    pub fn ring(&self, address: u64) -> bool {
        let registered = self.registered.lock().expect("no panic under the lock");
        let doorbell = registered.get(&address);
        doorbell.is_some_and(|event| event.write(1).is_ok())
    }
}

impl Doorbells for RecordingDoorbells {
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let mut registered = self.registered.lock().expect("no panic under the lock");
        match registered.insert(address, event.try_clone()?) {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => Ok(()),
        }
    }

    fn unregister(&self, address: u64, _event: &EventFd) -> io::Result<()> {
        let mut registered = self.registered.lock().expect("no panic under the lock");
        let gone = registered.remove(&address);
        gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
