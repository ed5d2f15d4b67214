//! The ways down: an orderly power-off, and what happens instead of a panic.

use std::io::Write;
use std::panic;

use rustix::system::RebootCommand;

/// Writes everything back and switches the machine off. Returns only if the kernel refuses.
pub(crate) fn power_off() -> rustix::io::Errno {
    rustix::fs::sync();
    match rustix::system::reboot(RebootCommand::PowerOff) {
        Ok(()) => rustix::io::Errno::IO,
        Err(errno) => errno,
    }
}

/// PID 1 must not end: a panic says one line on the console and switches the machine off.
pub(crate) fn instead_of_panicking() {
    panic::set_hook(Box::new(|info| {
        say(&format!("husk-agent: {info}"));
        say(&format!("husk-agent: cannot power off: {}", power_off()));
    }));
}

/// One line on the console.
pub(crate) fn say(line: &str) {
    // With the console gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "{line}"));
}
