//! husk-vmm: one process, one virtual machine, described by a JSON file.
//!
//! ```text
//!  cli -> config::load -> config::check -> builder::build -> run::run -> exit code
//! ```

mod api;
mod arch;
mod builder;
mod cli;
mod config;
mod confine;
mod error;
mod kvm;
mod run;
mod shares;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::Command;
use error::{VmmError, chain};
use run::{Control, EndSignals, Outcome};
use shares::Change;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that talks"
)]
fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)).map_err(VmmError::from) {
        Ok(Command::Help) => print!("{}", cli::HELP),
        Ok(Command::Share(Change::Help)) => print!("{}", shares::HELP),
        Ok(Command::Share(change)) => {
            if let Err(error) = change.apply().map_err(VmmError::from) {
                return fail(&error);
            }
        }
        Ok(Command::Version) => println!("husk-vmm {}", env!("CARGO_PKG_VERSION")),
        Ok(Command::Run {
            config,
            api_socket,
            lifeline,
        }) => match run_machine(&config, api_socket, lifeline) {
            Ok(outcome) => {
                if let Some(complaint) = outcome.complaint() {
                    eprintln!("husk-vmm: {complaint}");
                }
                return outcome.code();
            }
            Err(error) => return fail(&error),
        },
        Err(error) => return fail(&error),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the one place that talks")]
fn fail(error: &VmmError) -> ExitCode {
    eprintln!("husk-vmm: {}", chain(error));
    error.code()
}

fn run_machine(
    config: &Path,
    api_socket: Option<PathBuf>,
    lifeline: bool,
) -> Result<Outcome, VmmError> {
    let config = config::load(config)?;
    let spec = config::check(&config)?;
    let signals = EndSignals::block().map_err(VmmError::Signals)?;
    let api = api_socket.map(api::Server::bind).transpose()?;
    let control = Control::new(spec.vcpus).map_err(VmmError::Event)?;
    let machine = builder::build(spec, &control)?;
    // Threads use it until the process ends.
    let machine = Box::leak(Box::new(machine));
    let lifeline = lifeline.then(rustix::stdio::stdin);
    Ok(run::run(machine, &control, api, lifeline, &signals)?)
}
