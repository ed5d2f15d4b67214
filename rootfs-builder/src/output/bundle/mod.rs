//! An OCI bundle: the root file system, and a `config.json` from the configuration of the image, by the OCI image specification
//! ("Conversion to OCI Runtime Configuration").

mod config;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use thiserror::Error;

use crate::accounts::UserError;
use crate::contents::Contents;
use crate::tree::Tree;

use super::directory::{self, DirectoryError};
use super::whole;

/// Why a bundle could not be made.
#[derive(Debug, Error)]
pub(crate) enum BundleError {
    #[error(transparent)]
    Root(#[from] DirectoryError),
    #[error("the user of the image")]
    User(#[from] UserError),
    #[error("the working directory {0:?} of the image is no absolute path")]
    WorkingDirectory(String),
    #[error(transparent)]
    Whole(#[from] whole::DirectoryError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What the bundle is to run.
#[derive(Clone, Debug)]
pub(crate) struct Process<'a> {
    /// Arguments in the place of those of the image; its entry point stays.
    pub(crate) arguments: &'a [String],
    pub(crate) terminal: bool,
}

/// Writes a bundle as the directory `path`, which must not exist or be empty.
pub(crate) fn write(
    (tree, contents): (&Tree, &Contents),
    image: Option<&ImageConfiguration>,
    path: &Path,
    process: &Process<'_>,
    rootless: bool,
) -> Result<directory::Written, BundleError> {
    let config = config::config((tree, contents), image, process)?;
    whole::directory(path, |made| {
        let written = directory::write(tree, contents, &made.join("rootfs"), rootless)?;
        let config = fs::write(made.join("config.json"), format!("{config:#}\n"));
        config.map_err(|source| BundleError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(written)
    })
}
