//! A hostile guest: the first process of a machine, which drives the devices itself and does to them what no honest driver does.
//!
//! Each case is one attack on one device, out of the fault cases F1 to F13 and F41 of the threat model. After each, the device must still
//! carry out an honest request. The host's side (`tests/tests/hostile.rs`) checks that the VMM lives, has not
//! grown, and that nothing outside the machine has changed.
//!
//! Every case prints one line, `case NAME: ok` or `case NAME: FAILED: WHY`; the last line is `hostile: N passed, N failed`.

mod boot;
mod cases;
mod driver;
mod honest;
mod memory;
mod pci;
mod ports;
mod report;

use report::Report;

fn main() {
    let mut report = Report::default();
    if let Err(error) = boot::prepare() {
        report.fail("boot", &error);
    }
    cases::run_all(&mut report);
    report.close();
    boot::power_off();
}
