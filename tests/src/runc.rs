//! runc on the same machine: the reference.

use std::process::Command;

use anyhow::Result;

use crate::bundle::Bundle;
use crate::husk::{self, unique_id};
use crate::output::{self, Output};

/// `runc run` of a bundle, in the foreground, to its end.
pub fn run(bundle: &Bundle) -> Result<Output> {
    let mut runc = Command::new("runc");
    runc.args(["run", &unique_id()]).current_dir(bundle.path());
    output::run(&mut runc, b"")
}

/// What runc and husk make of a bundle, in this order.
pub fn both(bundle: &Bundle) -> Result<[Output; 2]> {
    Ok([run(bundle)?, husk::run(bundle)?])
}
