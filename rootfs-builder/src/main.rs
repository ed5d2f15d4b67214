//! `husk-rootfs`. This is the only place that prints or ends the process.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command-line tool writes its result to stdout and errors to stderr"
)]

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rootfs_builder::Cli;

fn main() -> ExitCode {
    match rootfs_builder::run(&Cli::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
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
