//! What the `cpuid` instruction tells a guest: the host's features as KVM offers them, less what no guest of husk uses, and a
//! topology of one package with one thread a core.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// A feature bit that guests do not get.
struct Hidden {
    leaf: u32,
    register: Register,
    bit: u32,
}

enum Register {
    Ecx,
    Edx,
}

/// No nested virtualization (it would be a large part of KVM to attack), no performance counters, no debug store.
const HIDDEN: [Hidden; 6] = [
    // VMX.
    Hidden {
        leaf: 1,
        register: Register::Ecx,
        bit: 5,
    },
    // Perfmon capabilities MSR.
    Hidden {
        leaf: 1,
        register: Register::Ecx,
        bit: 15,
    },
    // Debug store.
    Hidden {
        leaf: 1,
        register: Register::Edx,
        bit: 21,
    },
    // SVM.
    Hidden {
        leaf: 0x8000_0001,
        register: Register::Ecx,
        bit: 2,
    },
    // Core and north bridge performance counters.
    Hidden {
        leaf: 0x8000_0001,
        register: Register::Ecx,
        bit: 23,
    },
    Hidden {
        leaf: 0x8000_0001,
        register: Register::Ecx,
        bit: 24,
    },
];

/// Leaves that describe only hidden features: performance monitoring, SVM, extended performance monitoring.
const EMPTIED: [u32; 3] = [0xa, 0x8000_000a, 0x8000_0022];

/// Guests are told of at most this many address bits, so that page tables stay at four levels.
const MAX_ADDRESS_BITS: u32 = 48;
/// What processors without the leaf have.
const DEFAULT_ADDRESS_BITS: u32 = 36;

/// Takes away what guests do not get, and adds what KVM leaves to the VMM.
pub(super) fn restrict(cpuid: &mut CpuId, tsc_deadline: bool) {
    for entry in cpuid.as_mut_slice() {
        for hidden in HIDDEN.iter().filter(|hidden| hidden.leaf == entry.function) {
            let register = match hidden.register {
                Register::Ecx => &mut entry.ecx,
                Register::Edx => &mut entry.edx,
            };
            *register &= !(1 << hidden.bit);
        }
        if EMPTIED.contains(&entry.function) {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
        if entry.function == 1 {
            // Running under a hypervisor; x2APIC; the deadline timer, all of them KVM's.
            entry.ecx |= 1 << 31 | 1 << 21 | u32::from(tsc_deadline) << 24;
        }
    }
}

/// Bits of a guest-physical address.
pub(super) fn address_bits(cpuid: &CpuId) -> u32 {
    cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == 0x8000_0008)
        .map_or(DEFAULT_ADDRESS_BITS, |entry| entry.eax & 0xff)
        .min(MAX_ADDRESS_BITS)
}

/// Makes the description that of processor `id` of `count`.
pub(super) fn number(cpuid: &mut CpuId, id: u8, count: u8) {
    let topology = Topology::new(id, count);
    for entry in cpuid.as_mut_slice() {
        topology.apply(entry);
    }
}

struct Topology {
    id: u32,
    count: u32,
    /// Bits of an APIC id that number the cores of a package.
    core_bits: u32,
}

impl Topology {
    fn new(id: u8, count: u8) -> Self {
        let count = u32::from(count);
        Self {
            id: u32::from(id),
            count,
            core_bits: count.next_power_of_two().trailing_zeros(),
        }
    }

    fn apply(&self, entry: &mut kvm_cpuid_entry2) {
        let siblings = self.count - 1;
        match entry.function {
            1 => {
                // APIC id and number of logical processors in the package.
                entry.ebx = entry.ebx & 0xffff | self.id << 24 | self.count << 16;
                set(&mut entry.edx, 28, self.count > 1);
            }
            // Deterministic cache parameters: caches 1 and 2 are a core's own, 3 is the package's.
            4 if entry.eax & 0x1f != 0 => {
                let level = (entry.eax >> 5) & 7;
                let sharing = if level >= 3 { siblings } else { 0 };
                entry.eax = entry.eax & 0x3fff | siblings << 26 | sharing << 14;
            }
            0x8000_001d if entry.eax & 0x1f != 0 => {
                let level = (entry.eax >> 5) & 7;
                let sharing = if level >= 3 { siblings } else { 0 };
                entry.eax = entry.eax & 0x3fff | sharing << 14;
            }
            // Extended topology: one thread a core, then all cores.
            0xb | 0x1f => {
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (self.core_bits, self.count, 2 << 8 | 1),
                    index => (0, 0, index),
                };
                entry.edx = self.id;
            }
            0x8000_0001 => {
                // CmpLegacy and TopologyExtensions.
                set(&mut entry.ecx, 1, self.count > 1);
            }
            0x8000_0008 => entry.ecx = self.core_bits << 12 | siblings,
            // Extended APIC id, core id, one thread a core, node 0 of one.
            0x8000_001e => {
                (entry.eax, entry.ebx, entry.ecx) = (self.id, self.id, 0);
            }
            _ => {}
        }
    }
}

fn set(register: &mut u32, bit: u32, value: bool) {
    *register = *register & !(1 << bit) | u32::from(value) << bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        }
    }

    #[test]
    fn nested_virtualization_is_hidden() {
        let mut cpuid =
            CpuId::from_entries(&[leaf(1, 0), leaf(0x8000_0001, 0), leaf(0x8000_000a, 0)]).unwrap();
        restrict(&mut cpuid, false);
        let entries = cpuid.as_slice();
        assert_eq!(entries[0].ecx & (1 << 5), 0);
        assert_eq!(entries[1].ecx & (1 << 2), 0);
        assert_eq!(entries[2].edx, 0);
    }

    #[test]
    fn each_processor_has_its_own_apic_id() {
        let mut cpuid = CpuId::from_entries(&[leaf(1, 0), leaf(0xb, 0), leaf(0xb, 1)]).unwrap();
        number(&mut cpuid, 3, 6);
        let entries = cpuid.as_slice();
        assert_eq!(entries[0].ebx >> 16, 3 << 8 | 6);
        assert_eq!(entries[1].edx, 3);
        assert_eq!((entries[2].eax, entries[2].ebx, entries[2].edx), (3, 6, 3));
    }

    #[test]
    fn the_address_width_is_bounded() {
        let mut wide = leaf(0x8000_0008, 0);
        wide.eax = 57;
        assert_eq!(address_bits(&CpuId::from_entries(&[wide]).unwrap()), 48);
        assert_eq!(
            address_bits(&CpuId::from_entries(&[leaf(1, 0)]).unwrap()),
            36
        );
    }
}
