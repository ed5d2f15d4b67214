//! The devices that a config names: one arm for each kind.

use std::sync::Arc;

use devices::irq::{Doorbells, MsiRouter};
use devices::memory::GuestMemory;
use devices::pci::bar::MmioWindows;
use devices::pci::root::PciRoot;
use devices::virtio::blk::Blk;
use devices::virtio::console::Console;
use devices::virtio::device::VirtioDevice;
use devices::virtio::fs::FsDevice;
use devices::virtio::net::{Net, Port};
use devices::virtio::pci::VirtioPci;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use devices::virtio::worker::{DeviceHandle, Worker};

use super::{BuildError, Buses};
use crate::arch;
use crate::config::{DeviceSpec, SocketFile};
use crate::confine::ThreadKind;
use crate::shares::Layout;

/// The devices, and who serves them.
pub(crate) struct Devices {
    /// Serves the devices of the main thread.
    pub(crate) main: Worker,
    /// Each serves one device on a thread of its own.
    pub(crate) workers: Vec<DeviceWorker>,
    /// Names of sockets to take away at the end.
    pub(crate) sockets: Vec<SocketFile>,
    /// What of the host's file systems they need.
    pub(super) layout: Layout,
    /// For the API: `slot:name` and the device.
    pub(crate) handles: Vec<(String, DeviceHandle)>,
}

/// A worker that wants a thread.
pub(crate) struct DeviceWorker {
    /// What kind of thread.
    pub(crate) kind: ThreadKind,
    /// Its name.
    pub(crate) name: String,
    /// The worker.
    pub(crate) worker: Worker,
}

/// What a device is connected to.
pub(super) struct Connections {
    pub(super) memory: GuestMemory,
    pub(super) router: Arc<dyn MsiRouter>,
    pub(super) doorbells: Arc<dyn Doorbells>,
}

/// Makes bus 0 and puts `specs` into its slots, in order.
pub(super) fn create(
    specs: Vec<DeviceSpec>,
    connections: Connections,
    windows: MmioWindows,
    buses: &Buses,
) -> Result<Devices, BuildError> {
    let root = PciRoot::new(buses.mmio.clone(), windows).map_err(BuildError::Pci)?;
    let device = "the PCI root";
    buses
        .mmio
        .insert(arch::ECAM_BASE, arch::ECAM_SIZE, root.clone())
        .map_err(|source| BuildError::Place { device, source })?;
    let mut slots = Slots {
        connections,
        root,
        devices: Devices {
            main: Worker::new().map_err(BuildError::Worker)?,
            workers: Vec::new(),
            sockets: Vec::new(),
            layout: Layout::default(),
            handles: Vec::new(),
        },
    };
    for spec in specs {
        slots.add(spec)?;
    }
    Ok(slots.devices)
}

struct Slots {
    connections: Connections,
    root: Arc<PciRoot>,
    devices: Devices,
}

impl Slots {
    fn add(&mut self, spec: DeviceSpec) -> Result<(), BuildError> {
        match spec {
            DeviceSpec::Rng => self.on_main("rng", Box::new(Rng::new())),
            DeviceSpec::Console(console) => {
                let device = Console::new(console.output, console.input, None)
                    .map_err(failed("the console"))?;
                self.on_main("console", Box::new(device))
            }
            DeviceSpec::Blk(blk) => {
                let device = Blk::new(blk.backend, &blk.serial);
                self.on_thread(ThreadKind::Blk, "blk", Box::new(device))
            }
            DeviceSpec::Vsock(vsock) => {
                self.devices.layout.vsock = Some(vsock.directory);
                self.devices.sockets.push(vsock.socket);
                let device = Vsock::new(vsock.cid, vsock.listener, vsock.connect_base)
                    .map_err(failed("the vsock device"))?;
                self.on_main("vsock", Box::new(device))
            }
            DeviceSpec::Fs(fs) => {
                let device = FsDevice::new(&fs.tag, &fs.options()).map_err(BuildError::Fs)?;
                self.devices.layout.shares = fs.shares;
                self.on_thread(ThreadKind::Fs, "fs", Box::new(device))
            }
            DeviceSpec::Net(net) => {
                let taps = net
                    .taps
                    .into_iter()
                    .map(|tap| Box::new(tap) as Box<dyn Port>);
                let device = Net::new(net.identity, taps.collect())
                    .map_err(failed("the network interface"))?;
                self.on_thread(ThreadKind::Net, "net", Box::new(device))
            }
        }
    }

    /// The main thread serves `device`: it is seldom busy, or never blocks.
    fn on_main(
        &mut self,
        name: &'static str,
        device: Box<dyn VirtioDevice>,
    ) -> Result<(), BuildError> {
        let handle = self.devices.main.add(device);
        self.insert(name, handle).map(drop)
    }

    /// A thread of its own serves `device`: it blocks, or is busy.
    fn on_thread(
        &mut self,
        kind: ThreadKind,
        name: &'static str,
        device: Box<dyn VirtioDevice>,
    ) -> Result<(), BuildError> {
        let mut worker = Worker::new().map_err(BuildError::Worker)?;
        let handle = worker.add(device);
        let name = self.insert(name, handle)?;
        self.devices
            .workers
            .push(DeviceWorker { kind, name, worker });
        Ok(())
    }

    /// Gives the device a slot. Returns its full name.
    fn insert(&mut self, name: &'static str, handle: DeviceHandle) -> Result<String, BuildError> {
        let Connections {
            memory,
            router,
            doorbells,
        } = &self.connections;
        let function = VirtioPci::new(handle.clone(), memory.clone(), &**router, doorbells.clone());
        let function = function.map_err(|source| BuildError::Virtio { name, source })?;
        let address = self.root.add(function).map_err(BuildError::Pci)?;
        let name = format!("{}:{name}", address.device());
        self.devices.handles.push((name.clone(), handle));
        Ok(name)
    }
}

fn failed(device: &'static str) -> impl Fn(std::io::Error) -> BuildError {
    move |source| BuildError::Device { device, source }
}
