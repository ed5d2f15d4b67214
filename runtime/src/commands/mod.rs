//! The commands, one a file: arguments to library calls, and what is printed.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod image;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::bundle::BundleError;
use crate::cgroup::Driver;
use crate::chain::chain;
use crate::cli::Command;
use crate::lifecycle::LifecycleError;
use crate::log::Log;
use crate::monitor::{Report, Signals};
use crate::state::{IdError, Root, StateError};

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where containers are.
    pub(crate) root: Root,
    /// Where messages go.
    pub(crate) log: Log,
    /// Who makes cgroups.
    pub(crate) driver: Driver,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// What it does to a container.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// An option has a value that is not usable.
    #[error("option {option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// No signal has this name or number.
    #[error("unknown signal {text:?}")]
    Signal {
        /// What was given.
        text: String,
    },
    /// `init` is runc's own first process in a container; here the guest's agent does its work.
    #[error(
        "init is not a command for users: the agent in the guest starts a container's first process"
    )]
    Init,
    /// An option has a value that means nothing; the words are runc's.
    #[error("invalid value for {option}: {value:?}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
    },
    /// No bundle can be made of an image.
    #[error("cannot make a bundle of the image {image:?}")]
    Image {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program that makes bundles said why it made none.
    #[error("husk-rootfs made no bundle of the image {image:?}")]
    ImageBundle {
        /// The image.
        image: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `spec` overwrites nothing.
    #[error("file {path} exists. Remove it first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl From<IdError> for CommandError {
    fn from(error: IdError) -> Self {
        Self::Lifecycle(error.into())
    }
}

impl From<StateError> for CommandError {
    fn from(error: StateError) -> Self {
        Self::Lifecycle(error.into())
    }
}

impl From<BundleError> for CommandError {
    fn from(error: BundleError) -> Self {
        Self::Lifecycle(error.into())
    }
}

type Result<T> = std::result::Result<T, CommandError>;

/// Exit code of a command that failed: `exec` has one of its own, as in runc.
pub(crate) fn failure_code(command: &Command) -> ExitCode {
    match command {
        Command::Exec(_) => ExitCode::from(255),
        _ => ExitCode::FAILURE,
    }
}

/// One line about a command that failed. Engines show it, after what runc puts before it.
pub(crate) fn failure_text(command: &Command, error: &CommandError) -> String {
    let before = match command {
        Command::Create(_) => "husk create failed: ",
        Command::Run(_) => "husk run failed: ",
        Command::Exec(_) => "exec failed: ",
        _ => "",
    };
    before.to_owned() + &chain(error)
}

/// Carries a command out.
pub(crate) fn carry_out(context: &Context, command: &Command) -> Result<ExitCode> {
    context.log.debug(&format!("{command:?}"));
    match command {
        Command::Create(args) => return create::create(context, args),
        Command::Run(args) => return run::run(context, args),
        Command::Exec(args) => return exec::exec(context, args),
        Command::Start(args) => start::start(context, args)?,
        Command::State(args) => state::state(context, args)?,
        Command::Kill(args) => kill::kill(context, args)?,
        Command::Delete(args) => delete::delete(context, args)?,
        Command::List(args) => list::list(context, args)?,
        Command::Ps(args) => ps::ps(context, args)?,
        Command::Pause(args) => pause::pause(context, args)?,
        Command::Resume(args) => pause::resume(context, args)?,
        Command::Update(args) => update::update(context, args)?,
        Command::Events(args) => events::events(context, args)?,
        Command::Init => return Err(CommandError::Init),
        Command::Spec(args) => spec::spec(args)?,
        Command::Features => features::features()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// As one line of JSON.
fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| CommandError::Write {
        path: "standard output".into(),
        source: error.into(),
    })
}

/// Prints what the command was asked for.
fn print(text: &str) -> Result<()> {
    let failed = |source| CommandError::Write {
        path: "standard output".into(),
        source,
    };
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(failed)
}

/// What a monitor in the background does first: it lets go of the engine, and takes the signals that it will pass on.
fn begin_monitor(report: &Report) -> std::result::Result<Signals, LifecycleError> {
    report.leave_engine()?;
    Signals::take().map_err(LifecycleError::Monitor)
}

/// Writes a process id where `--pid-file` asks; engines wait for the file, so it appears whole.
fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| CommandError::Write {
        path: path.to_owned(),
        source,
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(
        path.file_name()
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?,
    );
    let new = path.with_file_name(name);
    std::fs::write(&new, pid.to_string()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// No descriptor of the host can be passed into a guest.
fn refuse_descriptors(count: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let problem = "descriptors of the host do not exist in the guest".to_owned();
    Err(CommandError::Option {
        option: "--preserve-fds",
        problem,
    })
}
