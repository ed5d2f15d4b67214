//! F10: every port, in every width, and string instructions.

use crate::ports;
use crate::report::Report;

/// Reads and writes all ports. Zero is written: it neither powers the machine off, nor resets it, nor reports a panic.
pub(super) fn run(report: &mut Report) {
    if let Err(why) = ports::allow() {
        report.fail("F10 ports", &why);
        return;
    }
    report.case(
        "F10 every port read by bytes",
        sweep(1, |port, width| {
            ports::read(port, width);
        }),
    );
    report.case(
        "F10 every second port read by words",
        sweep(2, |port, width| {
            ports::read(port, width);
        }),
    );
    report.case(
        "F10 ports read by double words",
        sweep(4, |port, width| {
            ports::read(port, width);
        }),
    );
    report.case(
        "F10 every port written by bytes",
        sweep(1, |port, width| ports::write(port, width, 0)),
    );
    report.case(
        "F10 ports written by words",
        sweep(2, |port, width| ports::write(port, width, 0)),
    );
    report.case(
        "F10 ports written by double words",
        sweep(4, |port, width| ports::write(port, width, 0)),
    );
    report.case("F10 a port without a device reads as ones", empty());
    report.case("F10 string instructions", strings());
}

fn sweep(width: usize, mut access: impl FnMut(u16, usize)) -> Result<(), String> {
    for port in (0..=u16::MAX).step_by(width * 3) {
        access(port, width);
    }
    Ok(())
}

fn empty() -> Result<(), String> {
    let value = ports::read(0x7f01, 4);
    if value == u32::MAX {
        Ok(())
    } else {
        Err(format!("{value:#x}"))
    }
}

fn strings() -> Result<(), String> {
    let mut buffer = vec![0; 4096];
    for port in [0x80, 0x60, 0xcf8, 0x7f00] {
        ports::write_string(port, &buffer);
        ports::read_string(port, &mut buffer);
    }
    Ok(())
}
