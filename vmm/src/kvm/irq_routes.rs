//! Message interrupts: one eventfd, one irqfd and one route in KVM's table for each vector in use.
//!
//! Route numbers are chosen here and never by a guest; what a guest writes into a vector is the message alone. KVM hears of
//! a vector when it is first unmasked, so the many that drivers never enable cost nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use devices::irq::{Interrupt, MsiMessage, MsiRouter, MsiVector};
use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::vm::{IOAPIC_PINS, Vm};

/// Most vectors in one machine. KVM's table has room for 4,096 routes.
const MAX_VECTORS: u32 = 1024;

/// Gives out vectors of one machine.
pub(crate) struct KvmMsiRouter {
    table: Arc<RouteTable>,
}

impl KvmMsiRouter {
    pub(super) fn new(vm: Vm) -> Self {
        let table = RouteTable {
            vm,
            routes: Mutex::new(Routes {
                next: IOAPIC_PINS,
                used: BTreeMap::new(),
            }),
        };
        Self {
            table: Arc::new(table),
        }
    }
}

impl MsiRouter for KvmMsiRouter {
    fn allocate(&self, count: u16) -> io::Result<Vec<Box<dyn MsiVector>>> {
        let first = self.table.reserve(count)?;
        (first..)
            .take(usize::from(count))
            .map(|gsi| Vector::new(gsi, self.table.clone()))
            .map(|vector| vector.map(|vector| Box::new(vector) as Box<dyn MsiVector>))
            .collect()
    }
}

struct RouteTable {
    vm: Vm,
    routes: Mutex<Routes>,
}

struct Routes {
    next: u32,
    used: BTreeMap<u32, MsiMessage>,
}

impl RouteTable {
    fn reserve(&self, count: u16) -> io::Result<u32> {
        let mut routes = lock(&self.routes);
        let first = routes.next;
        let next = first.saturating_add(u32::from(count));
        if next > IOAPIC_PINS + MAX_VECTORS {
            return Err(io::Error::other(format!(
                "more than {MAX_VECTORS} interrupt vectors"
            )));
        }
        routes.next = next;
        Ok(first)
    }

    /// Points `gsi` at `message`. KVM takes the whole table each time.
    fn set(&self, gsi: u32, message: MsiMessage) -> io::Result<()> {
        let mut routes = lock(&self.routes);
        if routes.used.insert(gsi, message) == Some(message) {
            return Ok(());
        }
        let entries: Vec<_> = routes.used.iter().map(entry).collect();
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| io::Error::other("interrupt routing table is full"))?;
        self.vm.fd.set_gsi_routing(&table).map_err(io::Error::from)
    }
}

fn entry((gsi, message): (&u32, &MsiMessage)) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi: *gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    let [a0, a1, a2, a3, a4, a5, a6, a7] = message.address.to_le_bytes();
    entry.u.msi.address_lo = u32::from_le_bytes([a0, a1, a2, a3]);
    entry.u.msi.address_hi = u32::from_le_bytes([a4, a5, a6, a7]);
    entry.u.msi.data = message.data;
    entry
}

/// One vector: unarmed until it is first unmasked.
struct Vector {
    gsi: u32,
    event: EventFd,
    table: Arc<RouteTable>,
    /// Whether KVM watches the eventfd.
    armed: Mutex<bool>,
    masked: AtomicBool,
    /// Somebody else may write the eventfd, so that masking has to detach it.
    shared: AtomicBool,
}

impl Vector {
    fn new(gsi: u32, table: Arc<RouteTable>) -> io::Result<Self> {
        Ok(Self {
            gsi,
            event: EventFd::new(EFD_NONBLOCK)?,
            table,
            armed: Mutex::new(false),
            masked: AtomicBool::new(true),
            shared: AtomicBool::new(false),
        })
    }
}

impl Interrupt for Vector {
    fn trigger(&self) -> io::Result<()> {
        if self.masked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.event.write(1)
    }
}

impl MsiVector for Vector {
    fn configure(&self, message: MsiMessage, masked: bool) -> io::Result<()> {
        let mut armed = lock(&self.armed);
        self.masked.store(masked, Ordering::Release);
        let vm = &self.table.vm.fd;
        if masked {
            if *armed && self.shared.load(Ordering::Acquire) {
                vm.unregister_irqfd(&self.event, self.gsi)?;
                *armed = false;
            }
            return Ok(());
        }
        self.table.set(self.gsi, message)?;
        if !*armed {
            vm.register_irqfd(&self.event, self.gsi)?;
            *armed = true;
        }
        Ok(())
    }

    fn eventfd(&self) -> &EventFd {
        self.shared.store(true, Ordering::Release);
        &self.event
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_carries_the_whole_message() {
        let message = MsiMessage {
            address: 0x1234_5678_fee0_1000,
            data: 0x41,
        };
        let entry = entry((&30, &message));
        assert_eq!((entry.gsi, entry.type_), (30, KVM_IRQ_ROUTING_MSI));
        #[expect(unsafe_code, reason = "the binding is a union")]
        // SAFETY: `entry` set the message variant.
        let msi = unsafe { entry.u.msi };
        assert_eq!(
            (msi.address_lo, msi.address_hi, msi.data),
            (0xfee0_1000, 0x1234_5678, 0x41)
        );
    }
}
