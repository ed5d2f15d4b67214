//! What the tests of this crate share: archives with anything in them, layouts, and a look at what came out.
#![allow(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::allow_attributes,
    reason = "which part differs, so nothing can be expected"
)]

pub(crate) mod hostile;
pub(crate) mod layout;
pub(crate) mod listing;
pub(crate) mod place;
pub(crate) mod registry;
pub(crate) mod special;
pub(crate) mod tar;

use std::path::Path;
use std::process::{Command, Output};

/// The program under test.
pub(crate) fn husk_rootfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_husk-rootfs"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Whether owners, devices and privileged attributes can be written here.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Unpacks an image; without owners and devices where only root could write them.
pub(crate) fn unpack(image: &str, directory: &Path, options: &[&str]) -> Output {
    let mut command = husk_rootfs();
    command.arg("unpack").args(options);
    if !is_root() {
        command.arg("--rootless");
    }
    command.arg(image).arg(directory).output().unwrap()
}

/// What a program wrote to its standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
