//! `cargo xtask`: the developer's commands. Each module is one command, or what several of them need.
#![expect(
    clippy::print_stderr,
    reason = "progress and errors of a command-line tool go to stderr"
)]

mod bench;
mod build;
mod bundle;
mod command;
mod doctor;
mod house;
mod kernel;
mod manual;
mod packages;
mod paths;
mod progress;
mod run;
mod test;
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
    Run(run::Run),
    Test(test::Test),
    Testbed(testbed::Testbed),
    Build(build::Build),
    Kernel(kernel::Kernel),
    Bench(bench::Bench),
    #[command(hide = true)]
    BenchInside(bench::Inside),
    /// Check the rules of this house alone, a part of `test`
    House,
    /// Say what this machine can do for husk, and what to do about what it cannot
    Doctor,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Run(task) => run::run(&task),
        Task::Test(task) => test::run(&task),
        Task::Testbed(task) => testbed::run(&task),
        Task::Build(task) => build::run(&task).map(|()| 0),
        Task::Kernel(task) => kernel::run(&task),
        Task::Bench(task) => bench::run(&task),
        Task::BenchInside(task) => bench::run_inside(&task),
        Task::House => Ok(test::house()),
        Task::Doctor => doctor::run(),
    };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
