//! `husk-rootfs`: makes what a guest boots from and what a container runs on.
//!
//! Uses no crate of husk: it takes the agent and everything else as files. `main` is the only place that prints or ends
//! the process.
#![expect(
    clippy::print_stderr,
    reason = "errors of a command-line tool go to stderr"
)]

mod cli;
mod compression;
mod cpio;
mod output;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Initrd(arguments) => output::initrd::build(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("husk-rootfs: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
