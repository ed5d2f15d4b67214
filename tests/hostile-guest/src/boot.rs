//! What the kernel does not do for a first process.

use std::fs;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// Mounts what the attacks look at, and takes the devices away from the kernel's drivers.
pub(crate) fn prepare() -> Result<(), String> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(place).map_err(|error| format!("{place}: {error}"))?;
        let flags = MountFlags::NOSUID;
        mount(kind, place, kind, flags, None).map_err(|error| format!("mount {place}: {error}"))?;
    }
    for entry in
        fs::read_dir("/sys/bus/pci/drivers/virtio-pci").map_err(|error| error.to_string())?
    {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("0000:") {
            fs::write("/sys/bus/pci/drivers/virtio-pci/unbind", name.as_bytes())
                .map_err(|error| format!("unbind {name}: {error}"))?;
        }
    }
    Ok(())
}

/// Ends the machine.
pub(crate) fn power_off() {
    rustix::fs::sync();
    let outcome = reboot(RebootCommand::PowerOff);
    assert!(outcome.is_ok(), "the machine must power off: {outcome:?}");
}
