//! The attacks, as tables.

mod blk;
mod fs;
mod io;
mod net;
mod registers;
mod rings;
mod vsock;

use crate::driver::Device;
use crate::honest;
use crate::pci::Function;
use crate::report::Report;

/// One attack on one device.
pub(crate) struct Case {
    /// Fault case and what is done, such as `F1 descriptor loop`.
    pub(crate) name: &'static str,
    /// Does it. A message is a failure; so is a device that does not work afterwards.
    pub(crate) attack: fn(&Device) -> Result<(), String>,
}

/// Runs every case on every device it applies to.
pub(crate) fn run_all(report: &mut Report) {
    let mut devices = Vec::new();
    for function in Function::all().unwrap_or_default() {
        let name = function.name();
        match Device::of(function) {
            Ok(Some(device)) => devices.push(device),
            Ok(None) => {}
            Err(why) => report.fail(&name, &why),
        }
    }
    if devices.is_empty() {
        report.fail("devices", "there are none");
    }
    for device in &devices {
        let tables = [rings::CASES, registers::CASES, specific(device)];
        for case in tables.into_iter().flatten() {
            let outcome = (case.attack)(device).and_then(|()| honest::works(device));
            report.case(
                &format!(
                    "{} on {} {}",
                    case.name,
                    device.name(),
                    device.function.name()
                ),
                outcome,
            );
        }
    }
    io::run(report);
    for device in &devices {
        report.case(
            &format!("{} works at the end", device.function.name()),
            honest::works(device),
        );
    }
}

fn specific(device: &Device) -> &'static [Case] {
    match device.name() {
        "blk" => blk::CASES,
        "vsock" => vsock::CASES,
        "fs" => fs::CASES,
        "net" => net::CASES,
        _ => &[],
    }
}
