//! Interrupts and doorbells as devices see them. The VMM backs these traits with KVM, tests with mocks.

#[cfg(any(test, fuzzing))]
pub mod mock;

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// An interrupt that a device can raise.
pub trait Interrupt: Send + Sync {
    /// Raises it once (edge).
    fn trigger(&self) -> io::Result<()>;
}

/// What a function writes to signal a message interrupt (PCI 3.0, 6.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Message address.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// One message-signalled vector of a function.
pub trait MsiVector: Interrupt {
    /// Routes the vector to `message`. Until the first call, and while `masked`, triggers are not delivered.
    fn configure(&self, message: MsiMessage, masked: bool) -> io::Result<()>;
    /// The eventfd whose write raises the vector, for back ends that signal by themselves.
    fn eventfd(&self) -> &EventFd;
}

/// Gives out vectors. The count is bounded by the VMM.
pub trait MsiRouter: Send + Sync {
    /// `count` new vectors, unconfigured.
    fn allocate(&self, count: u16) -> io::Result<Vec<Box<dyn MsiVector>>>;
}

/// Doorbells: guest writes that become eventfd signals without leaving the kernel.
pub trait Doorbells: Send + Sync {
    /// From now on a write of any size to `address` signals `event`.
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()>;
    /// Ends what `register` began, with the same arguments.
    fn unregister(&self, address: u64, event: &EventFd) -> io::Result<()>;
}
