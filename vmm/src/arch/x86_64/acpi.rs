//! ACPI tables: a hardware-reduced machine, described by acpi_tables.
//!
//! ```text
//!  RSDP -> XSDT -> FADT -> DSDT    sleep and reset registers; PCI root, COM1, events, power button, pvpanic
//!               -> MADT            local APICs, I/O APIC
//!               -> MCFG            configuration space of bus 0
//! ```

use std::ops::Range;

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Device, EISAName, Equal, Field, FieldAccessType,
    FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method,
    Name, Notify, ONE, OpRegion, OpRegionSpace, Package, Path, ResourceTemplate, Store, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace as Space, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use devices::legacy::{acpi as registers, panic, serial};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::{
    ACPI_PORT, ACPI_TABLES, ECAM_BASE, ECAM_SIZE, EVENT_PIN, IOAPIC_BASE, LOCAL_APIC, MMIO32,
    PANIC_PORT, SERIAL_PIN, SERIAL_PORT,
};

const OEM: [u8; 6] = *b"HUSK  ";
const OEM_TABLE: [u8; 8] = *b"HUSKVMM ";
const REVISION: u32 = 1;
/// Tables start at multiples of this.
const ALIGNMENT: u64 = 16;
/// No keyboard controller (bit 1), no VGA (bit 2), no CMOS clock (bit 5).
const NO_VGA_NO_CLOCK: u16 = 1 << 2 | 1 << 5;
/// Revision 2 gives AML integers 64 bits.
const DSDT_REVISION: u8 = 2;
/// `Notify` value: the button was pressed (ACPI 6.4, 5.6.6).
const PRESSED: u8 = 0x80;

/// Writes the tables of a machine with `cpus` processors and a window for 64-bit BARs. Returns the address of the root pointer.
pub(crate) fn write_tables(
    memory: &GuestMemoryMmap,
    cpus: u8,
    mmio64: &Range<u64>,
) -> Result<u64, GuestMemoryError> {
    let mut writer = Writer {
        memory,
        next: ACPI_TABLES.start,
    };
    // The root pointer comes first, and is written last.
    let root = writer.next;
    writer.next = (root + Rsdp::len() as u64).next_multiple_of(ALIGNMENT);
    let dsdt = writer.put(&dsdt(mmio64))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(writer.put(&fadt(dsdt))?);
    xsdt.add_entry(writer.put(&madt(cpus))?);
    xsdt.add_entry(writer.put(&mcfg())?);
    let xsdt = writer.put(&xsdt)?;
    memory.write_slice(&bytes(&Rsdp::new(OEM, xsdt)), GuestAddress(root))?;
    Ok(root)
}

struct Writer<'a> {
    memory: &'a GuestMemoryMmap,
    next: u64,
}

impl Writer<'_> {
    fn put(&mut self, table: &dyn Aml) -> Result<u64, GuestMemoryError> {
        let (at, table) = (self.next, bytes(table));
        self.memory.write_slice(&table, GuestAddress(at))?;
        self.next = (at + table.len() as u64).next_multiple_of(ALIGNMENT);
        Ok(at)
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> impl Aml {
    let port = |offset: u64| {
        let address = u64::from(ACPI_PORT) + offset;
        GAS::new(Space::SystemIo, 8, 0, AccessSize::ByteAccess, address)
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.reset_reg = port(registers::RESET);
    fadt.reset_value = registers::RESET_VALUE;
    fadt.sleep_control_reg = port(registers::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(registers::SLEEP_STATUS);
    fadt.iapc_boot_arch = NO_VGA_NO_CLOCK.into();
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, local);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, low(IOAPIC_BASE), 0));
    madt
}

fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, REVISION);
    mcfg.add_ecam(ECAM_BASE, 0, 0, 0);
    mcfg
}

fn dsdt(mmio64: &Range<u64>) -> Sdt {
    let mut aml = Vec::new();
    let sleep_type = registers::S5_TYPE;
    let s5 = Package::new(vec![&sleep_type, &ZERO, &ZERO, &ZERO]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut aml);
    pci_root(mmio64, &mut aml);
    reserved(&mut aml);
    serial_port(&mut aml);
    panic_device(&mut aml);
    events(&mut aml);
    let mut dsdt = Sdt::new(*b"DSDT", 36, DSDT_REVISION, OEM, OEM_TABLE, REVISION);
    dsdt.append_slice(&aml);
    dsdt.update_checksum();
    dsdt
}

fn pci_root(mmio64: &Range<u64>, out: &mut Vec<u8>) {
    let buses = AddressSpace::new_bus_number(0_u16, 0);
    let cacheable = AddressSpaceCacheable::NotCacheable;
    let window32 = AddressSpace::new_memory(
        cacheable,
        true,
        low(MMIO32.start),
        low(MMIO32.end - 1),
        None,
    );
    let window64 = (!mmio64.is_empty())
        .then(|| AddressSpace::new_memory(cacheable, true, mmio64.start, mmio64.end - 1, None));
    let mut resources: Vec<&dyn Aml> = vec![&buses, &window32];
    resources.extend(window64.iter().map(|window| window as &dyn Aml));
    Device::new(
        "_SB_.PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_BBN".into(), &ZERO),
            &Name::new("_SEG".into(), &ZERO),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
        ],
    )
    .to_aml_bytes(out);
}

/// Kernels use configuration space only if a device reserves it.
fn reserved(out: &mut Vec<u8>) {
    let ecam = Memory32Fixed::new(true, low(ECAM_BASE), low(ECAM_SIZE));
    Device::new(
        "_SB_.MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ecam])),
        ],
    )
    .to_aml_bytes(out);
}

fn serial_port(out: &mut Vec<u8>) {
    let interrupt = edge(SERIAL_PIN);
    let ports = ports(SERIAL_PORT, serial::SIZE);
    Device::new(
        "_SB_.COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&interrupt, &ports]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

fn panic_device(out: &mut Vec<u8>) {
    const PRESENT: u8 = 0xf;
    Device::new(
        "_SB_.PEVT".into(),
        vec![
            &Name::new("_HID".into(), &"QEMU0001"),
            &Name::new("_STA".into(), &PRESENT),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&ports(PANIC_PORT, panic::SIZE)]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

/// The power button, and the generic event device that says when it was pressed.
fn events(out: &mut Vec<u8>) {
    Device::new(
        "_SB_.PWRB".into(),
        vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C"))],
    )
    .to_aml_bytes(out);

    let register = ACPI_PORT + u16::try_from(registers::EVENTS).unwrap_or_default();
    let pending = Local(0);
    let bit = Local(1);
    Device::new(
        "_SB_.GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&edge(EVENT_PIN)]),
            ),
            &OpRegion::new("EREG".into(), OpRegionSpace::SystemIO, &register, &ONE),
            &Field::new(
                "EREG".into(),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                vec![FieldEntry::Named(*b"EVTS", 8)],
            ),
            &Method::new(
                "_EVT".into(),
                1,
                true,
                vec![
                    &Store::new(&pending, &Path::new("EVTS")),
                    &And::new(&bit, &pending, &registers::POWER_BUTTON),
                    &If::new(
                        &Equal::new(&bit, &registers::POWER_BUTTON),
                        vec![&Notify::new(&Path::new("\\_SB_.PWRB"), &PRESSED)],
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(out);
}

fn edge(pin: u8) -> Interrupt {
    // Consumer, edge-triggered, active high, exclusive.
    Interrupt::new(true, true, false, false, u32::from(pin))
}

fn ports(base: u16, size: u64) -> IO {
    IO::new(base, base, 0, u8::try_from(size).unwrap_or(u8::MAX))
}

/// An address of the layout below 4 GiB.
fn low(address: u64) -> aml::DWord {
    u32::try_from(address).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn every_table_is_linked_and_has_a_checksum() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let root = write_tables(&memory, 32, &(4 << 30..68 << 30)).unwrap();
        let read = |address: u64, len: usize| {
            let mut bytes = vec![0; len];
            memory
                .read_slice(&mut bytes, GuestAddress(address))
                .unwrap();
            bytes
        };
        let rsdp = read(root, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
        let table = |address: u64| {
            let len = u32::from_le_bytes(read(address, 8)[4..].try_into().unwrap());
            let table = read(address, len as usize);
            assert_eq!(sum(&table), 0);
            table
        };
        let xsdt = table(u64::from_le_bytes(rsdp[24..32].try_into().unwrap()));
        let names: Vec<_> = xsdt[36..]
            .chunks(8)
            .map(|entry| table(u64::from_le_bytes(entry.try_into().unwrap())))
            .map(|table| String::from_utf8_lossy(&table[..4]).into_owned())
            .collect();
        assert_eq!(names, ["FACP", "APIC", "MCFG"]);
        let fadt = table(u64::from_le_bytes(xsdt[36..44].try_into().unwrap()));
        let dsdt = table(u64::from_le_bytes(fadt[140..148].try_into().unwrap()));
        assert_eq!(&dsdt[..4], b"DSDT");
    }
}
