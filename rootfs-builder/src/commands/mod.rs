//! What the program does: one command a module, from its arguments to the text of its result.

mod build;
mod bundle;
mod disk;
mod erofs;
mod ext4;
mod file;
mod initrd;
mod inspect;
mod manual;
mod progress;
mod source;
mod unpack;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::additions::AdditionError;
use crate::cli::{Cli, Command};
use crate::output::bundle::BundleError;
use crate::output::directory::DirectoryError;

use build::BuildError;
use source::{DATE, SourceError};

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error("cannot use the image {image}")]
    Image {
        image: String,
        source: Box<SourceError>,
    },
    #[error("cannot unpack the image {image}")]
    Directory {
        image: String,
        source: Box<DirectoryError>,
    },
    #[error("cannot make a bundle of the image {image}")]
    Bundle {
        image: String,
        source: Box<BundleError>,
    },
    #[error("recipe {}", path.display())]
    Recipe {
        path: PathBuf,
        source: Box<BuildError>,
    },
    #[error("cannot write {}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Addition(#[from] AdditionError),
    #[error("{DATE} is '{0}', which is no number of seconds")]
    Date(String),
}

/// Does what the command line says. Returns what is to be printed.
///
/// # Errors
/// When it could not be done; then nothing is left under the name of the result.
pub fn run(cli: &Cli) -> Result<String, impl std::error::Error + use<>> {
    match &cli.command {
        Command::Unpack(arguments) => unpack::run(arguments),
        Command::Bundle(arguments) => bundle::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Erofs(arguments) => erofs::run(arguments),
        Command::Ext4(arguments) => ext4::run(arguments),
        Command::Initrd(arguments) => initrd::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Manual { share } => manual::run(share),
    }
}
