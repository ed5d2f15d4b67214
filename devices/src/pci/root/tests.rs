//! The root against hostile drivers (SECURITY.md, F8).

use super::*;
use crate::pci::address::ECAM_SIZE;
use crate::pci::bar::{BarWidth, MmioWindow};

const LOW: MmioWindow = MmioWindow {
    base: 0xc000_0000,
    end: 0xc100_0000,
};
const HIGH: MmioWindow = MmioWindow {
    base: 0x10_0000_0000,
    end: 0x20_0000_0000,
};
const BARS: [Bar; 2] = [
    Bar {
        index: 0,
        size: 0x8000,
        width: BarWidth::Bits64,
    },
    Bar {
        index: 2,
        size: 0x1000,
        width: BarWidth::Bits32,
    },
];
const COMMAND_REGISTER: u64 = COMMAND as u64;

/// Index of a BAR, where it was and where it went.
type Move = (u8, Option<u64>, Option<u64>);

/// Reads as its BAR's index; records moves.
#[derive(Default)]
struct Probe {
    moves: Mutex<Vec<Move>>,
}

impl PciFunction for Probe {
    fn config(&self) -> ConfigSpace {
        ConfigSpace::new(&Identity {
            vendor: 0x1234,
            device: 0x5678,
            revision: 0,
            class: [0xff, 0, 0],
            subsystem_vendor: 0,
            subsystem: 0,
        })
    }

    fn bars(&self) -> &[Bar] {
        &BARS
    }

    fn bar_read(&self, bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(bar);
    }

    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) {}

    fn bar_moved(&self, bar: u8, from: Option<u64>, to: Option<u64>) {
        self.moves.lock().unwrap().push((bar, from, to));
    }
}

struct Rig {
    bus: Arc<Bus>,
    root: Arc<PciRoot>,
    probe: Arc<Probe>,
}

/// Two probes at devices 1 and 2.
fn rig() -> Rig {
    let bus = Arc::new(Bus::default());
    let root = PciRoot::new(bus.clone(), MmioWindows::new(LOW, HIGH, 40)).unwrap();
    let probe = Arc::new(Probe::default());
    assert_eq!(root.add(probe.clone()).unwrap().device(), 1);
    assert_eq!(root.add(Arc::new(Probe::default())).unwrap().device(), 2);
    Rig { bus, root, probe }
}

impl Rig {
    fn register(device: u64, register: u64) -> u64 {
        device << 15 | register
    }

    fn read(&self, device: u64, register: u64) -> u32 {
        let mut data = [0; 4];
        self.root.read(Self::register(device, register), &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, device: u64, register: u64, value: u32) {
        let offset = Self::register(device, register);
        self.root.write(offset, &value.to_le_bytes());
    }

    fn answers(&self, address: u64) -> Option<u8> {
        let mut data = [0];
        self.bus.read(address, &mut data);
        (data[0] != 0xff).then_some(data[0])
    }

    fn decode(&self, device: u64, on: bool) {
        self.write(device, COMMAND_REGISTER, if on { 2 } else { 0 });
    }

    fn bar0(&self, device: u64) -> u64 {
        u64::from(self.read(device, 0x14)) << 32 | u64::from(self.read(device, 0x10) & !0xf)
    }

    fn move_bar0(&self, device: u64, address: u64) {
        self.decode(device, false);
        self.write(device, 0x10, u32::try_from(address & 0xffff_ffff).unwrap());
        self.write(device, 0x14, u32::try_from(address >> 32).unwrap());
        self.decode(device, true);
    }
}

#[test]
fn the_bus_has_a_host_bridge_and_what_was_added() {
    let rig = rig();
    assert_eq!(rig.read(0, 0), 0x0008_1b36);
    assert_eq!(rig.read(0, 8), 0x0600_0000);
    assert_eq!(rig.read(1, 0), 0x5678_1234);
    assert_eq!(rig.read(3, 0), u32::MAX);
    rig.write(3, 0, 0);
    for device in 3..32 {
        rig.root
            .add(Arc::new(Probe::default()))
            .unwrap_or_else(|error| panic!("{device}: {error}"));
    }
    assert!(matches!(
        rig.root.add(Arc::new(Probe::default())),
        Err(RootError::Full)
    ));
}

#[test]
fn bars_answer_only_while_memory_is_decoded() {
    let rig = rig();
    let at = rig.bar0(1);
    assert_eq!(at, HIGH.base);
    assert_eq!(rig.bar0(2), HIGH.base + 0x8000);
    assert_eq!(u64::from(rig.read(1, 0x18)), LOW.base);
    assert_eq!(rig.answers(at), None);
    rig.decode(1, true);
    assert_eq!(rig.answers(at), Some(0));
    assert_eq!(rig.answers(at + 0x7fff), Some(0));
    assert_eq!(rig.answers(at + 0x8000), None);
    assert_eq!(rig.answers(LOW.base), Some(2));
    rig.decode(1, false);
    assert_eq!((rig.answers(at), rig.answers(LOW.base)), (None, None));
    let moves = rig.probe.moves.lock().unwrap();
    assert_eq!(moves[0], (0, None, Some(at)));
    assert_eq!(moves[2], (0, Some(at), None));
}

#[test]
fn sizing_works_with_decoding_on_and_off() {
    for on in [false, true] {
        let rig = rig();
        rig.decode(1, on);
        let at = rig.bar0(1);
        rig.write(1, 0x10, u32::MAX);
        assert_eq!(rig.read(1, 0x10), 0xffff_8004);
        rig.write(1, 0x14, u32::MAX);
        assert_eq!(rig.read(1, 0x14), u32::MAX);
        rig.write(1, 0x10, u32::try_from(at & 0xffff_ffff).unwrap());
        rig.write(1, 0x14, u32::try_from(at >> 32).unwrap());
        rig.write(1, 0x18, u32::MAX);
        assert_eq!(rig.read(1, 0x18), 0xffff_f000);
        rig.write(1, 0x18, u32::try_from(LOW.base).unwrap());
        rig.write(1, 0x1c, u32::MAX);
        assert_eq!(rig.read(1, 0x1c), 0);
        rig.decode(1, true);
        assert_eq!(rig.answers(at), Some(0), "decoding {on}");
        assert_eq!(rig.answers(LOW.base), Some(2), "decoding {on}");
    }
}

#[test]
fn a_bar_moves_within_its_windows() {
    let rig = rig();
    rig.decode(1, true);
    let (from, to) = (rig.bar0(1), HIGH.base + 0x100_0000);
    rig.move_bar0(1, to);
    assert_eq!((rig.answers(from), rig.answers(to)), (None, Some(0)));
    // And with decoding on, half by half.
    let next = to + 0x8000;
    rig.write(1, 0x10, u32::try_from(next & 0xffff_ffff).unwrap());
    assert_eq!((rig.answers(to), rig.answers(next)), (None, Some(0)));
}

#[test]
fn moves_on_top_of_anything_are_rolled_back() {
    let rig = rig();
    rig.decode(1, true);
    rig.decode(2, true);
    let good = rig.bar0(1);
    let other = rig.bar0(2);
    let taken = HIGH.base + 0x200_0000;
    rig.bus
        .insert(
            taken + 0x7fff,
            1,
            Arc::new(BarWindow {
                function: rig.probe.clone(),
                bar: 7,
            }),
        )
        .unwrap();
    for bad in [
        0,
        0x10_0000,
        0xfee0_0000,
        0x1_0000_0000,
        HIGH.base - 0x8000,
        HIGH.end,
        0xff_ffff_0000,
        0xffff_ffff_ffff_0000,
        other,
        taken,
    ] {
        rig.move_bar0(1, bad);
        assert_eq!(rig.bar0(1), good, "{bad:#x} reads back");
        assert_eq!(rig.answers(good), Some(0), "{bad:#x}");
        assert_eq!(rig.answers(taken + 0x7fff), Some(7));
        assert_eq!(rig.answers(taken), None);
    }
    assert_eq!(rig.answers(other), Some(0));
}

#[test]
fn every_register_of_every_function_survives_every_size() {
    let rig = rig();
    for offset in (0..ECAM_SIZE).step_by(7).chain(0x8000..0x8110) {
        for len in [1, 2, 3, 4, 8] {
            let mut data = vec![0; len];
            rig.root.read(offset, &mut data);
            rig.root.write(offset, &vec![0xff; len]);
            rig.root.write(offset, &data);
        }
    }
    assert_eq!(rig.read(1, 0), 0x5678_1234);
    let mut data = [0; 4];
    rig.root.read(0x8ffe, &mut data);
    assert_eq!(data, [0xff; 4]);
}

#[test]
fn windows_end_at_the_address_width() {
    let windows = MmioWindows::new(LOW, HIGH, 36);
    assert_eq!(
        windows.high(),
        MmioWindow {
            base: 1 << 36,
            end: 1 << 36
        }
    );
    let root = PciRoot::new(Arc::default(), windows).unwrap();
    let outcome = root.add(Arc::new(Probe::default()));
    assert!(matches!(
        outcome,
        Err(RootError::Bar {
            source: BarError::NoRoom { index: 0, .. },
            ..
        })
    ));
    assert_eq!(MmioWindows::new(LOW, HIGH, 64).high(), HIGH);
}
