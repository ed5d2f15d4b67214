//! The root of bus 0: decodes the ECAM, places BARs, and puts them on the bus while their function answers on memory.
//!
//! Lock order: slots, then one slot's state, then the bus. Accesses to BARs take none of the first two.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::address::{self, PciAddress};
use super::bar::{Bar, BarError, MmioWindows};
use super::config_space::{COMMAND, COMMAND_MEMORY, ConfigSpace, Identity};
use super::function::{PciFunction, Touched};
use crate::bus::{Bus, BusDevice};
use crate::log_limit::LogLimit;

/// Registers 0x04..0x28: command and BARs.
const DECODING: (u16, u16) = (COMMAND, 0x24);

/// Why a function could not be added.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// All 32 devices exist.
    #[error("pci bus 0 is full")]
    Full,
    /// A BAR is impossible or does not fit.
    #[error("pci function {address}")]
    Bar {
        /// The place it was to have.
        address: PciAddress,
        /// Why.
        #[source]
        source: BarError,
    },
}

struct Mapped {
    bar: Bar,
    /// Where the BAR answers.
    at: Option<u64>,
    /// The last address it could answer at.
    good: u64,
}

struct State {
    config: ConfigSpace,
    bars: Vec<Mapped>,
}

struct Slot {
    function: Arc<dyn PciFunction>,
    state: Mutex<State>,
}

/// Bus 0 with its host bridge at 00:00.0. The VMM puts it on the bus at the ECAM's address.
pub struct PciRoot {
    bus: Arc<Bus>,
    windows: Mutex<MmioWindows>,
    slots: RwLock<Vec<Arc<Slot>>>,
}

impl PciRoot {
    /// A root with a host bridge only. `bus` is the space of memory-mapped registers.
    pub fn new(bus: Arc<Bus>, windows: MmioWindows) -> Result<Arc<Self>, RootError> {
        let root = Arc::new(Self {
            bus,
            windows: Mutex::new(windows),
            slots: RwLock::default(),
        });
        root.add(Arc::new(HostBridge))?;
        Ok(root)
    }

    /// Adds `function` as the next device and gives its BARs their addresses. It answers there once the driver says so.
    pub fn add(&self, function: Arc<dyn PciFunction>) -> Result<PciAddress, RootError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let address = u8::try_from(slots.len()).ok().and_then(PciAddress::new);
        let address = address.ok_or(RootError::Full)?;
        let state = self
            .place(function.as_ref())
            .map_err(|source| RootError::Bar { address, source })?;
        slots.push(Arc::new(Slot {
            function,
            state: Mutex::new(state),
        }));
        Ok(address)
    }

    fn place(&self, function: &dyn PciFunction) -> Result<State, BarError> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = function.config();
        let mut bars = Vec::new();
        for bar in function.bars() {
            bar.declare(&mut config)?;
            let good = windows.allocate(*bar)?;
            bar.set_address(&mut config, good);
            bars.push(Mapped {
                bar: *bar,
                at: None,
                good,
            });
        }
        Ok(State { config, bars })
    }

    fn slot(&self, address: PciAddress) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(usize::from(address.device())).cloned()
    }

    /// Makes the bus answer as the registers say. A BAR whose new address is taken, or in no window, gets its old one back.
    fn follow(&self, function: &Arc<dyn PciFunction>, state: &mut State, touched: Touched) {
        static LIMIT: LogLimit = LogLimit::new();
        let answers = state.config.word(COMMAND) & COMMAND_MEMORY != 0;
        for mapped in &mut state.bars {
            if !answers {
                self.withdraw(function, mapped);
                continue;
            }
            let wanted = mapped.bar.address(&state.config);
            if mapped.at == Some(wanted) || self.move_to(function, mapped, wanted) {
                continue;
            }
            // Sizing with decoding on: it stays where it is until the driver has put the address back.
            let decoding_changed = touched.overlaps(COMMAND, 2);
            if !decoding_changed && mapped.bar.is_being_sized(&state.config) {
                continue;
            }
            let good = mapped.good;
            mapped.bar.set_address(&mut state.config, good);
            if mapped.at != Some(good) && !self.move_to(function, mapped, good) {
                let index = mapped.bar.index;
                if LIMIT.allows() {
                    log::warn!("bar {index} has no place at {good:#x}: it stays off");
                }
            }
        }
    }

    fn withdraw(&self, function: &Arc<dyn PciFunction>, mapped: &mut Mapped) {
        if let Some(at) = mapped.at.take() {
            self.bus.remove(at);
            function.bar_moved(mapped.bar.index, Some(at), None);
        }
    }

    /// Whether the BAR could be put at `to`; if not, it is where it was.
    fn move_to(&self, function: &Arc<dyn PciFunction>, mapped: &mut Mapped, to: u64) -> bool {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = windows.contain(to, mapped.bar.size);
        drop(windows);
        let window = Arc::new(BarWindow {
            function: function.clone(),
            bar: mapped.bar.index,
        });
        if !allowed || self.bus.insert(to, mapped.bar.size, window).is_err() {
            return false;
        }
        let from = mapped.at.replace(to);
        if let Some(from) = from {
            self.bus.remove(from);
        }
        mapped.good = to;
        function.bar_moved(mapped.bar.index, from, Some(to));
        true
    }
}

impl BusDevice for PciRoot {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let Some((slot, touched)) = self.target(offset, data.len()) else {
            data.fill(0xff);
            return;
        };
        let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        slot.function.before_config_read(&mut state.config, touched);
        state.config.read(touched.register, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some((slot, touched)) = self.target(offset, data.len()) else {
            return;
        };
        let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.config.write(touched.register, data);
        if touched.overlaps(DECODING.0, DECODING.1) {
            self.follow(&slot.function, &mut state, touched);
        }
        slot.function.after_config_write(&state.config, touched);
    }
}

impl PciRoot {
    fn target(&self, offset: u64, len: usize) -> Option<(Arc<Slot>, Touched)> {
        let (address, register) = address::decode(offset, len)?;
        let len = u16::try_from(len).ok()?;
        Some((self.slot(address)?, Touched { register, len }))
    }
}

/// One BAR of a function on the bus.
struct BarWindow {
    function: Arc<dyn PciFunction>,
    bar: u8,
}

impl BusDevice for BarWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.function.bar_read(self.bar, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.function.bar_write(self.bar, offset, data);
    }
}

/// Device 0. It has no registers of its own.
struct HostBridge;

impl PciFunction for HostBridge {
    fn config(&self) -> ConfigSpace {
        // The identity of QEMU's generic PCI Express host bridge, which needs no driver.
        ConfigSpace::new(&Identity {
            vendor: 0x1b36,
            device: 0x0008,
            revision: 0,
            class: [0x06, 0x00, 0x00],
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        })
    }

    fn bars(&self) -> &[Bar] {
        &[]
    }

    fn bar_read(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
mod tests;
