//! `cargo xtask`: the developer's commands. Each module is one command, or what several of them need.
#![expect(
    clippy::print_stderr,
    reason = "progress and errors of a command-line tool go to stderr"
)]

mod command;
mod kernel;
mod packages;
mod paths;
mod progress;
mod testbed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What this program exits with when it fails itself, as `docker run` and `timeout` do: no code of a command that it runs.
const FAILED: u8 = 125;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Build, run and test husk"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Kernel(kernel::Kernel),
    Testbed(testbed::Testbed),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Kernel(task) => kernel::run(&task),
        Task::Testbed(task) => testbed::run(&task),
    };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
