//! KVM: the only modules that talk to `/dev/kvm`.

mod error;
mod ioevents;
mod irq_routes;
mod memory_slots;
mod msr_filter;
mod vcpu;
mod vm;

pub(crate) use error::KvmError;
pub(crate) use ioevents::KvmDoorbells;
pub(crate) use irq_routes::KvmMsiRouter;
pub(crate) use msr_filter::{MsrFilter, MsrWindow};
pub(crate) use vcpu::{Exit, Kicker, MsrAccess, Vcpu};
pub(crate) use vm::{Host, Vm};
