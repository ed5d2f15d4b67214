//! `cargo xtask run`: one command in one container, from whatever this machine has.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{self, Build};
use crate::doctor::kvm::{self, Kvm};
use crate::testbed::{self, Testbed};
use crate::{bundle, packages};

/// Build everything and run a command in a container in a virtual machine: on KVM where it is usable and fast, otherwise in
/// the testbed. The container has busybox, or is of an image. Standard output and exit status are the command's.
#[derive(Args)]
pub(crate) struct Run {
    /// Run in the testbed even if KVM is usable
    #[arg(long)]
    testbed: bool,
    #[command(flatten)]
    build: Build,
    /// The image of the container, as `husk-rootfs` names images; its own program runs where no command is given
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "image", value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command and returns its exit status.
pub(crate) fn run(run: &Run) -> Result<i32> {
    build::run(&run.build)?;
    let dir = tempfile::Builder::new()
        .prefix("husk-run-")
        .tempdir()
        .context("cannot create a temporary directory")?;
    let bundle = dir.path().join("bundle");
    match &run.image {
        Some(image) => bundle::of_image(&bundle, image, &run.command)?,
        None => bundle::write(&bundle, &run.command)?,
    }
    let id = format!("run-{}", std::process::id());
    if place(run.testbed) == Place::Here {
        let mut husk = Command::new(build::bin("husk"));
        let status = husk
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(&id)
            .status()
            .context("cannot run husk")?;
        return Ok(crate::command::code(status));
    }
    let bundle = bundle.to_string_lossy().into_owned();
    // Copied, so that husk serves a file system of L1's own and not one that L1 itself gets over virtio-fs.
    let script = r#"cp -a "$1" /tmp/bundle && exec husk run --bundle /tmp/bundle "$2""#;
    testbed::run(&Testbed {
        shares: vec![dir.path().to_owned()],
        command: ["sh", "-c", script, "sh", &bundle, &id]
            .map(str::to_owned)
            .to_vec(),
        ..Testbed::default()
    })
}

/// Where sandboxes run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine's KVM.
    Here,
    /// In L1.
    Testbed,
}

/// Decides, and says so on stderr.
pub(crate) fn place(testbed_wanted: bool) -> Place {
    if testbed_wanted {
        return Place::Testbed;
    }
    match kvm::probe() {
        Kvm::Fast(_) if packages::is_root() => Place::Here,
        Kvm::Fast(_) => {
            eprintln!("husk needs root to use KVM here, so it runs in the testbed");
            Place::Testbed
        }
        unusable => {
            eprintln!("{unusable}: husk runs in the testbed");
            Place::Testbed
        }
    }
}
