//! The registers' place: moves, the way through configuration space, and any access at all.

use super::super::*;
use super::rig::*;

#[test]
fn doorbells_follow_the_bar() {
    let rig = rig();
    let at = |base: u64| vec![base + NOTIFY, base + NOTIFY + 4];
    rig.function.bar_moved(0, None, Some(BAR_ADDRESS));
    assert_eq!(rig.doorbells.addresses(), at(BAR_ADDRESS));
    rig.function
        .bar_moved(0, Some(BAR_ADDRESS), Some(BAR_ADDRESS + 0x8000));
    assert_eq!(rig.doorbells.addresses(), at(BAR_ADDRESS + 0x8000));
    rig.function.bar_moved(0, Some(BAR_ADDRESS + 0x8000), None);
    assert!(rig.doorbells.addresses().is_empty());
}

#[test]
fn every_access_to_the_bar_is_harmless() {
    let mut rig = rig();
    rig.start();
    for offset in (0..BAR.size)
        .step_by(3)
        .chain(0..0x40)
        .chain([u64::MAX, u64::MAX - 7])
    {
        // The status may be reset, and the table changed: neither is the point here.
        for len in [1, 2, 3, 4, 8] {
            let mut data = vec![0; len];
            rig.function.bar_read(0, offset, &mut data);
            rig.function.bar_write(0, offset, &vec![0xff; len]);
            rig.function.bar_write(0, offset, &vec![0; len]);
        }
        rig.worker.dispatch().unwrap();
    }
    assert_eq!(rig.read(0x2000, 4), u32::from_le_bytes(*b"conf"));
    assert_eq!(rig.read(0x2ffc, 4), 0);
}

#[test]
fn the_bar_can_be_reached_through_configuration_space() {
    let rig = rig();
    let mut config = rig.function.config();
    let base = rig.function.window_register;
    let mut put = |register: u16, data: &[u8]| {
        config.write(base + register, data);
        let len = u16::try_from(data.len()).unwrap();
        let register = base + register;
        rig.function
            .after_config_write(&config, Touched { register, len });
    };
    put(layout::WINDOW_OFFSET, &0x14_u32.to_le_bytes());
    put(layout::WINDOW_LENGTH, &1_u32.to_le_bytes());
    put(layout::WINDOW_DATA, &[1]);
    assert_eq!(rig.status(), 1);
    for (offset, len) in [
        (0x14_u32, 0_u32),
        (0x14, 3),
        (0x15, 2),
        (u32::MAX, 4),
        (0x14, u32::MAX),
    ] {
        put(layout::WINDOW_OFFSET, &offset.to_le_bytes());
        put(layout::WINDOW_LENGTH, &len.to_le_bytes());
        put(layout::WINDOW_DATA, &[0; 4]);
        assert_eq!(rig.status(), 1, "{len} bytes at {offset:#x}");
    }
    put(layout::WINDOW_OFFSET, &0x2000_u32.to_le_bytes());
    put(layout::WINDOW_LENGTH, &4_u32.to_le_bytes());
    let register = base + layout::WINDOW_DATA;
    rig.function
        .before_config_read(&mut config, Touched { register, len: 4 });
    assert_eq!(config.dword(register).to_le_bytes(), *b"conf");
}
