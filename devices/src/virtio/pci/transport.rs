//! One virtio device as a PCI function: capabilities, registers, doorbells and interrupts between the driver and the worker.
//!
//! Nothing of the device runs here. Processor threads change registers under one lock and never wait for the worker: a reset
//! of an active device shows in the status register once the worker has finished it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::common_config::{self, Register};
use super::interrupts::{Cause, IsrStatus, VirtioInterrupt};
use super::layout::{self, BAR, Region};
use super::negotiation::{Action, Negotiation, Offer, VERSION_1};
use super::queue_config::QueueConfig;
use super::status::NEEDS_RESET;
use crate::irq::{Doorbells, Interrupt, MsiRouter};
use crate::log_limit::LogLimit;
use crate::memory::GuestMemory;
use crate::pci::bar::Bar;
use crate::pci::capability::CapabilityError;
use crate::pci::config_space::{ConfigSpace, Identity};
use crate::pci::function::{PciFunction, Touched};
use crate::pci::msix::{self, Msix, MsixLayout};
use crate::virtio::device::{Activation, DeviceType};
use crate::virtio::queue::RequestQueue;
use crate::virtio::worker::DeviceHandle;

/// Features of the transport and the rings, offered with every device.
const TRANSPORT_FEATURES: u64 =
    VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

const MSIX_LAYOUT: MsixLayout = MsixLayout {
    bar: BAR.index,
    table: layout::TABLE_OFFSET,
    pending: layout::PENDING_OFFSET,
};

/// Why a device could not be put on PCI.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It has more queues than the layout has room for.
    #[error("device has {queues} queues, more than {}", layout::MAX_QUEUES)]
    Queues {
        /// How many.
        queues: usize,
    },
    /// The configuration space is full.
    #[error("virtio capabilities cannot be added")]
    Capabilities(#[source] CapabilityError),
    /// No interrupt vectors left.
    #[error("interrupt vectors cannot be had")]
    Vectors(#[source] io::Error),
    /// No descriptors left.
    #[error("doorbells cannot be made")]
    Doorbells(#[source] io::Error),
}

/// What the worker has of this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    Idle,
    /// Its queues.
    Active,
    /// The queues, until it has counted this many resets.
    Resetting(u64),
    /// Nothing, for it has gone.
    Lost,
}

struct State {
    negotiation: Negotiation,
    phase: Phase,
}

/// A virtio device on PCI.
pub struct VirtioPci {
    device: DeviceHandle,
    memory: GuestMemory,
    config: ConfigSpace,
    /// Register of the MSI-X capability.
    msix_register: u16,
    /// Register of the capability that reaches into the BAR.
    window_register: u16,
    msix: Arc<Msix>,
    isr: Arc<IsrStatus>,
    kicks: Vec<Arc<EventFd>>,
    doorbells: Arc<dyn Doorbells>,
    state: Mutex<State>,
}

impl VirtioPci {
    /// Puts `device` on PCI, with one vector for each queue and one for configuration changes.
    pub fn new(
        device: DeviceHandle,
        memory: GuestMemory,
        router: &dyn MsiRouter,
        doorbells: Arc<dyn Doorbells>,
    ) -> Result<Arc<Self>, TransportError> {
        let sizes = device.queue_sizes();
        let queues = u16::try_from(sizes.len())
            .ok()
            .filter(|queues| *queues <= layout::MAX_QUEUES)
            .ok_or(TransportError::Queues {
                queues: sizes.len(),
            })?;
        let vectors = queues.saturating_add(1);
        let msix = router.allocate(vectors).map(Msix::new);
        let msix = Arc::new(msix.map_err(TransportError::Vectors)?);
        let kick = |_: &u16| EventFd::new(EFD_NONBLOCK).map(Arc::new);
        let kicks: io::Result<Vec<_>> = sizes.iter().map(kick).collect();
        let offer = Offer {
            features: device.features() | TRANSPORT_FEATURES,
            vectors,
        };
        let negotiation = Negotiation::new(offer, sizes);
        let (config, registers) = configuration(&device, queues, &msix)?;
        Ok(Arc::new(Self {
            device,
            memory,
            config,
            msix_register: registers.msix,
            window_register: registers.window,
            msix,
            isr: Arc::default(),
            kicks: kicks.map_err(TransportError::Doorbells)?,
            doorbells,
            state: Mutex::new(State {
                negotiation,
                phase: Phase::Idle,
            }),
        }))
    }

    /// The registers, up to date with what the worker has finished.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Resetting(awaited) = state.phase
            && self.device.resets_done() >= awaited
        {
            state.negotiation.reset();
            state.phase = Phase::Idle;
        }
        state
    }

    fn read_common(&self, register: Register) -> u32 {
        let state = self.state();
        let value = state.negotiation.read(register);
        let broken = match state.phase {
            Phase::Active => self.device.needs_reset(),
            Phase::Lost => true,
            Phase::Idle | Phase::Resetting(_) => false,
        };
        // While a reset goes on the old status stays, and is not 0: that is how a driver knows.
        match register {
            Register::Status if broken => value | u32::from(NEEDS_RESET),
            _ => value,
        }
    }

    fn write_common(&self, register: Register, value: u32) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Resetting(_)) {
            return;
        }
        let memory = self.memory.memory();
        match state.negotiation.write(register, value, &memory) {
            Action::None => {}
            Action::Activate => self.activate(&mut state),
            Action::Reset => self.reset(&mut state),
        }
    }

    fn activate(&self, state: &mut State) {
        state.phase = Phase::Active;
        let activation = self.activation(&state.negotiation);
        if self.device.activate(activation).is_err() {
            log::error!("{} has no worker", self.device.device_type().name());
            state.phase = Phase::Lost;
        }
    }

    fn activation(&self, negotiation: &Negotiation) -> Activation {
        let features = negotiation.features();
        let queues = negotiation.queues().iter().zip(&self.kicks);
        Activation {
            queues: queues
                .map(|(config, kick)| self.queue(config, kick, features))
                .collect(),
            features,
            config_changed: self.interrupt(negotiation.config_vector(), Cause::Config),
        }
    }

    fn queue(
        &self,
        config: &QueueConfig,
        kick: &Arc<EventFd>,
        features: u64,
    ) -> Option<RequestQueue> {
        let interrupt = self.interrupt(config.vector, Cause::Queue);
        let (ring, memory) = (config.build()?, self.memory.clone());
        let mut queue = RequestQueue::new(ring, memory, kick.clone(), interrupt);
        queue.set_features(features);
        Some(queue)
    }

    fn interrupt(&self, vector: u16, cause: Cause) -> Arc<dyn Interrupt> {
        Arc::new(VirtioInterrupt {
            msix: self.msix.clone(),
            isr: self.isr.clone(),
            vector,
            cause,
        })
    }

    fn reset(&self, state: &mut State) {
        let awaited = self.device.resets_done().saturating_add(1);
        if state.phase == Phase::Active && self.device.reset().is_ok() {
            state.phase = Phase::Resetting(awaited);
        } else {
            state.negotiation.reset();
            state.phase = Phase::Idle;
        }
    }

    fn read_device(&self, offset: u64, data: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.device.config().get(offset..).unwrap_or_default();
        data.fill(0);
        data.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }

    /// The doorbell at `offset` of its region: the slow way, for writes that the kernel did not take.
    fn ring(&self, offset: u64) {
        let stride = layout::NOTIFY_STRIDE as usize;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let kick = offset
            .checked_div(stride)
            .and_then(|index| self.kicks.get(index));
        if let Some(kick) = kick
            && offset.is_multiple_of(stride)
        {
            // Fails only when the counter is full, and then the worker will wake anyway.
            drop(kick.write(1));
        }
    }

    fn for_each_doorbell(&self, bar: u64, mut action: impl FnMut(u64, &EventFd) -> io::Result<()>) {
        static LIMIT: LogLimit = LogLimit::new();
        let first = bar.saturating_add(layout::NOTIFY_OFFSET.into());
        for (index, kick) in self.kicks.iter().enumerate() {
            let distance = (index as u64).saturating_mul(layout::NOTIFY_STRIDE.into());
            let address = first.saturating_add(distance);
            if let Err(error) = action(address, kick)
                && LIMIT.allows()
            {
                log::warn!("doorbell at {address:#x}: {error}");
            }
        }
    }

    /// The access that the window capability describes, if the BAR can take it (virtio 1.2, 4.1.4.9).
    fn window(&self, config: &ConfigSpace, touched: Touched) -> Option<(u64, usize)> {
        let data = self.window_register.saturating_add(layout::WINDOW_DATA);
        let at = |field: u16| config.dword(self.window_register.saturating_add(field));
        let [bar, ..] = at(layout::WINDOW_BAR).to_le_bytes();
        let (offset, len) = (at(layout::WINDOW_OFFSET), at(layout::WINDOW_LENGTH));
        let sound = bar == BAR.index && matches!(len, 1 | 2 | 4) && offset.is_multiple_of(len);
        let len = usize::try_from(len).ok()?;
        (touched.overlaps(data, 4) && sound).then_some((offset.into(), len))
    }
}

impl PciFunction for VirtioPci {
    fn config(&self) -> ConfigSpace {
        self.config.clone()
    }

    fn bars(&self) -> &[Bar] {
        &[BAR]
    }

    fn before_config_read(&self, config: &mut ConfigSpace, touched: Touched) {
        if let Some((offset, len)) = self.window(config, touched) {
            let mut data = [0; 4];
            self.bar_read(BAR.index, offset, data.get_mut(..len).unwrap_or_default());
            let register = self.window_register.saturating_add(layout::WINDOW_DATA);
            config.set(register, &data);
        }
    }

    fn after_config_write(&self, config: &ConfigSpace, touched: Touched) {
        let control = self.msix_register.saturating_add(msix::CONTROL);
        if touched.overlaps(control, 2) {
            self.msix.set_control(config.word(control));
        }
        if let Some((offset, len)) = self.window(config, touched) {
            let register = self.window_register.saturating_add(layout::WINDOW_DATA);
            let data = config.dword(register).to_le_bytes();
            self.bar_write(BAR.index, offset, data.get(..len).unwrap_or_default());
        }
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        match layout::region(offset, data.len()) {
            Some((Region::Common, offset)) => match common_config::find(offset, data.len()) {
                Some(register) => common_config::put_value(data, self.read_common(register)),
                None => data.fill(0xff),
            },
            Some((Region::Isr, _)) => data.fill(self.isr.take()),
            Some((Region::Device, offset)) => self.read_device(offset, data),
            Some((Region::MsixTable, offset)) => self.msix.read_table(offset, data),
            Some((Region::MsixPending, offset)) => self.msix.read_pending(offset, data),
            Some((Region::Notify, _)) | None => data.fill(0xff),
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) {
        match layout::region(offset, data.len()) {
            Some((Region::Common, offset)) => {
                if let Some(register) = common_config::find(offset, data.len()) {
                    self.write_common(register, common_config::value_of(data));
                }
            }
            Some((Region::Notify, offset)) => self.ring(offset),
            Some((Region::MsixTable, offset)) => self.msix.write_table(offset, data),
            Some((Region::Isr | Region::Device | Region::MsixPending, _)) | None => {}
        }
    }

    fn bar_moved(&self, _bar: u8, from: Option<u64>, to: Option<u64>) {
        if let Some(from) = from {
            self.for_each_doorbell(from, |address, kick| {
                self.doorbells.unregister(address, kick)
            });
        }
        if let Some(to) = to {
            self.for_each_doorbell(to, |address, kick| self.doorbells.register(address, kick));
        }
    }
}

/// Registers of capabilities that do something.
struct Registers {
    msix: u16,
    window: u16,
}

fn configuration(
    device: &DeviceHandle,
    queues: u16,
    msix: &Msix,
) -> Result<(ConfigSpace, Registers), TransportError> {
    let mut config = ConfigSpace::new(&identity(device.device_type()));
    let mut add = |capability| {
        config
            .add_capability(&capability)
            .map_err(TransportError::Capabilities)
    };
    let device_config = u32::try_from(device.config().len()).unwrap_or(0);
    for capability in layout::regions(queues, device_config) {
        add(capability)?;
    }
    let registers = Registers {
        window: add(layout::window())?,
        msix: add(msix.capability(MSIX_LAYOUT))?,
    };
    Ok((config, registers))
}

/// Identity of a modern device (virtio 1.2, 4.1.2).
fn identity(device: DeviceType) -> Identity {
    const VENDOR: u16 = 0x1af4;
    let class = match device {
        DeviceType::Net => [0x02, 0x00, 0x00],
        DeviceType::Blk | DeviceType::Fs => [0x01, 0x80, 0x00],
        DeviceType::Console | DeviceType::Vsock => [0x07, 0x80, 0x00],
        DeviceType::Rng => [0xff, 0x00, 0x00],
    };
    Identity {
        vendor: VENDOR,
        device: 0x1040 | device as u16,
        revision: 1,
        class,
        subsystem_vendor: VENDOR,
        subsystem: 0x1100,
    }
}

#[cfg(test)]
mod tests;
