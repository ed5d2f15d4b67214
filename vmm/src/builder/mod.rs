//! From a checked machine to one that is ready to run. [`build`] reads top to bottom.

mod devices;
mod kernel;
mod memory;
mod platform;
mod vcpus;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use ::devices::bus::{Bus, BusError};
use ::devices::irq::MsiRouter;
use ::devices::legacy::acpi::AcpiRegisters;
use ::devices::legacy::serial::SerialPort;
use ::devices::memory::GuestMemory;
use ::devices::pci::bar::{MmioWindow, MmioWindows};
use ::devices::pci::root::RootError;
use ::devices::virtio::fs::FsError;
use ::devices::virtio::pci::TransportError;
use ::devices::virtio::worker::WorkerError;
use vm_memory::{GuestMemoryError, GuestMemoryMmap};

use crate::arch::{self, BootInfo, CpuTemplate, IoApic};
use crate::config::VmSpec;
use crate::kvm::{Host, KvmError, Vcpu, Vm};
use crate::run::Control;
use crate::shares::{self, ShareError};
pub(crate) use devices::{DeviceWorker, Devices};

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// KVM refused something.
    #[error("cannot set up the virtual machine")]
    Kvm(#[from] KvmError),
    /// Guest memory could not be had.
    #[error("cannot map {bytes} bytes of guest memory")]
    Memory {
        /// How much was wanted.
        bytes: u64,
        /// Why not.
        #[source]
        source: vm_memory::mmap::FromRangesError,
    },
    /// A part of guest memory could not be had.
    #[error("cannot map {bytes} bytes of guest memory")]
    Mapping {
        /// How much was wanted.
        bytes: usize,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Guest memory is not what it should be.
    #[error("guest memory has regions that overlap")]
    Regions(#[source] vm_memory::GuestRegionCollectionError),
    /// The memfd behind it could not be made.
    #[error("cannot make the file behind guest memory")]
    MemoryFile(#[source] io::Error),
    /// There is no thread to read the kernel.
    #[error("cannot start the thread that reads the kernel")]
    Loader(#[source] io::Error),
    /// The kernel or initrd could not be put into guest memory.
    #[error("cannot load the {what}")]
    Load {
        /// Which of them.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Tables or boot data could not be written.
    #[error("cannot write the {what} into guest memory")]
    Tables {
        /// What was written.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: GuestMemoryError,
    },
    /// A device could not be set up.
    #[error("cannot set up {device}")]
    Device {
        /// Which.
        device: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bus 0 refused a device.
    #[error("cannot set up the PCI bus")]
    Pci(#[source] RootError),
    /// A virtio device could not be put on the bus.
    #[error("cannot set up the {name} device")]
    Virtio {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The file system could not be set up.
    #[error("cannot set up the fs device")]
    Fs(#[source] FsError),
    /// A device has nobody to serve it.
    #[error("cannot serve devices")]
    Worker(#[source] WorkerError),
    /// The process could not leave the host's file systems.
    #[error("cannot enter a mount namespace of its own")]
    Shares(#[source] ShareError),
    /// Two devices share an address.
    #[error("cannot place {device}")]
    Place {
        /// Which.
        device: &'static str,
        /// Why.
        #[source]
        source: BusError,
    },
}

/// The two address spaces of devices.
#[derive(Clone, Default)]
pub(crate) struct Buses {
    /// Port I/O.
    pub(crate) ports: Arc<Bus>,
    /// Memory-mapped registers.
    pub(crate) mmio: Arc<Bus>,
}

/// A machine that is ready to run.
pub(crate) struct Machine {
    /// Guest memory, kept mapped.
    pub(crate) memory: GuestMemory,
    /// The processors, by number.
    pub(crate) vcpus: Vec<Vcpu>,
    /// What a config names.
    pub(crate) devices: Devices,
    /// What processors reach by addresses.
    pub(crate) buses: Buses,
    /// Sleep, reset and power button.
    pub(crate) acpi: Arc<AcpiRegisters>,
    /// The serial port, if its input is standard input.
    pub(crate) serial_input: Option<Arc<SerialPort>>,
}

/// Builds the machine that `spec` describes. It reports its end to `control`.
pub(crate) fn build(spec: VmSpec, control: &Control) -> Result<Machine, BuildError> {
    let host = Host::open()?;
    let (vm, memory) = loaded(&host, &spec)?;

    let mut template = CpuTemplate::new(&host, spec.vcpus)?;
    vm.filter_msrs(&template.msr_filter())?;
    let mmio64 = arch::mmio64(spec.ram, template.address_bits());
    let rsdp = arch::write_tables(&memory, spec.vcpus, &mmio64).map_err(tables("ACPI tables"))?;
    let info = BootInfo {
        cmdline: &spec.cmdline,
        initrd: spec
            .initrd
            .as_ref()
            .map(|initrd| (initrd.address, initrd.size)),
        rsdp,
        ram: spec.ram,
    };
    let entry =
        arch::write_boot_data(&memory, &spec.image, &info).map_err(tables("boot parameters"))?;

    let buses = Buses::default();
    let router: Arc<dyn MsiRouter> = Arc::new(vm.msi_router());
    let interrupts = interrupt_controller(&*router, &buses)?;
    let platform = platform::create(spec.serial, control, &interrupts, &buses)?;
    let memory = GuestMemory::new(memory);
    let connections = devices::Connections {
        memory: memory.clone(),
        router,
        doorbells: Arc::new(vm.doorbells()),
    };
    let windows = bar_windows(mmio64, template.address_bits());
    let mut devices = devices::create(spec.devices, connections, windows, &buses)?;
    let vcpus = vcpus::create(&vm, &mut template, spec.vcpus, entry)?;
    // All is open that is opened by name.
    // The sources are closed with it: each would be a way back to the host's files.
    shares::enter(&std::mem::take(&mut devices.layout)).map_err(BuildError::Shares)?;
    for socket in &mut devices.sockets {
        socket.moved_to(shares::VSOCK);
    }
    Ok(Machine {
        memory,
        vcpus,
        devices,
        buses,
        acpi: platform.acpi,
        serial_input: platform.serial_input,
    })
}

/// The machine, with its memory and the kernel in that. KVM waits for a grace period of the host's kernel as it makes a machine,
/// about as long as it takes to read a guest's kernel: so both are done side by side.
fn loaded(host: &Host, spec: &VmSpec) -> Result<(Vm, GuestMemoryMmap), BuildError> {
    let memory = memory::allocate(spec.ram, spec.shared_memory)?;
    let vm = thread::scope(|scope| {
        let loader = thread::Builder::new()
            .name("loader".into())
            .spawn_scoped(scope, || kernel::load(&memory, spec))
            .map_err(BuildError::Loader)?;
        let vm = host.create_vm();
        loader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        vm.map_err(BuildError::from)
    })?;
    vm.map_memory(&memory)?;
    Ok((vm, memory))
}

fn interrupt_controller(router: &dyn MsiRouter, buses: &Buses) -> Result<Arc<IoApic>, BuildError> {
    let device = "the interrupt controller";
    let pins = [arch::SERIAL_PIN, arch::EVENT_PIN];
    let ioapic =
        IoApic::new(&pins, router).map_err(|source| BuildError::Device { device, source })?;
    let ioapic = Arc::new(ioapic);
    buses
        .mmio
        .insert(arch::IOAPIC_BASE, arch::IOAPIC_SIZE, ioapic.clone())
        .map_err(|source| BuildError::Place { device, source })?;
    Ok(ioapic)
}

fn bar_windows(mmio64: Range<u64>, address_bits: u32) -> MmioWindows {
    let window = |range: Range<u64>| MmioWindow {
        base: range.start,
        end: range.end,
    };
    let bits = u8::try_from(address_bits).unwrap_or(u8::MAX);
    MmioWindows::new(window(arch::MMIO32), window(mmio64), bits)
}

fn tables(what: &'static str) -> impl Fn(GuestMemoryError) -> BuildError {
    move |source| BuildError::Tables { what, source }
}
