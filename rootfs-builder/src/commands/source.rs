//! From the arguments that name an image to its tree.

use std::env;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use crate::cli::ImageArguments;
use crate::image::{self, AssembleError, Assembled, Image, LayerSummary, OpenError};

use super::CommandError;

/// Where layers are unpacked unless something else is said: on a disk, where `/tmp` may be memory.
const SCRATCH: &str = "/var/tmp";
/// The date of what the image says none of, and of images themselves (reproducible-builds.org).
const DATE: &str = "SOURCE_DATE_EPOCH";

/// Why an image has no tree.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error("{DATE} is '{0}', which is no number of seconds")]
    Date(String),
}

/// An image as a tree.
pub(crate) struct Read {
    pub(crate) image: Image,
    pub(crate) assembled: Assembled,
}

/// What the result of every command says of the image.
#[derive(Serialize)]
pub(crate) struct ImageSummary<'a> {
    image: String,
    digest: Option<String>,
    config_digest: Option<String>,
    layers: &'a [LayerSummary],
}

impl Read {
    pub(crate) fn summary(&self, arguments: &ImageArguments) -> ImageSummary<'_> {
        ImageSummary {
            image: arguments.image.to_string(),
            digest: self.image.digest.map(|digest| digest.to_string()),
            config_digest: self
                .image
                .config
                .as_ref()
                .map(|(digest, _)| digest.to_string()),
            layers: &self.assembled.layers,
        }
    }
}

/// Finds an image and merges its layers.
pub(crate) fn read(arguments: &ImageArguments) -> Result<Read, CommandError> {
    let failed = |source| CommandError::Image {
        image: arguments.image.to_string(),
        source: Box::new(source),
    };
    read_image(arguments).map_err(failed)
}

fn read_image(arguments: &ImageArguments) -> Result<Read, SourceError> {
    let scratch = arguments.scratch.clone();
    let scratch = scratch.or_else(|| env::var_os("TMPDIR").map(PathBuf::from));
    let scratch = scratch.unwrap_or_else(|| SCRATCH.into());
    let limits = &arguments.limits;
    let options = image::Options {
        platform: arguments.platform.as_ref(),
        limits,
        scratch: &scratch,
    };
    let image = image::open(&arguments.image, &options)?;
    let assembled = image::assemble(&image, limits, &scratch, date()?, &|_, _| {})?;
    Ok(Read { image, assembled })
}

/// What `SOURCE_DATE_EPOCH` says, or 1970.
pub(crate) fn date() -> Result<i64, SourceError> {
    match env::var(DATE) {
        Ok(text) => text.parse().map_err(|_| SourceError::Date(text)),
        Err(env::VarError::NotPresent) => Ok(0),
        Err(env::VarError::NotUnicode(text)) => {
            Err(SourceError::Date(text.to_string_lossy().into_owned()))
        }
    }
}
