//! Every way in which husk-vmm can fail, and its exit code.

use std::io;
use std::process::ExitCode;

use crate::api::ApiSocketError;
use crate::builder::BuildError;
use crate::config::ConfigError;
use crate::run::RunError;
use crate::shares::ShareError;

/// A failure of husk-vmm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    /// The command line makes no sense.
    #[error(transparent)]
    Usage(#[from] crate::cli::UsageError),
    /// The config is not usable.
    #[error("bad config")]
    Config(#[from] ConfigError),
    /// The API's socket cannot be made.
    #[error(transparent)]
    Api(#[from] ApiSocketError),
    /// The machine could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The machine could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The shares of a running sandbox could not be changed, or those of this one not set up.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Signals could not be turned into events.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// An eventfd could not be had.
    #[error("cannot make an event file descriptor")]
    Event(#[source] io::Error),
}

impl VmmError {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::Config(_) | Self::Api(_) => 2,
            Self::Build(BuildError::Kvm(error)) if error.is_host() => 3,
            Self::Build(_) | Self::Run(_) | Self::Share(_) | Self::Signals(_) | Self::Event(_) => 1,
        })
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
