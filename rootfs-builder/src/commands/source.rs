//! From the arguments that name an image to its tree.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::cli::{ImageArguments, ImageOptions};
use crate::image::{self, AssembleError, Assembled, Image, OpenError};

use crate::registry::RegistryOptions;

use super::CommandError;

/// Where layers are unpacked unless something else is said: on a disk, where `/tmp` may be memory.
const SCRATCH: &str = "/var/tmp";
/// Where blobs are kept, below the directory for caches.
const CACHE: &str = "husk/blobs";
/// The date of what the image says none of, and of images themselves (reproducible-builds.org).
const DATE: &str = "SOURCE_DATE_EPOCH";

/// Why an image has no tree.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Open(Box<OpenError>),
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

impl Read {
    /// The result of a command as JSON, where that was asked for: what the image is, and what the command made of it.
    pub(crate) fn result(&self, arguments: &ImageArguments, mut result: Value) -> Option<String> {
        if !arguments.options.json {
            return None;
        }
        result["image"] = json!({
            "image": arguments.image.to_string(),
            "digest": self.image.digest.map(|digest| digest.to_string()),
            "config_digest": self.image.config.as_ref().map(|(digest, _)| digest.to_string()),
            "layers": &self.assembled.layers,
        });
        Some(format!("{result:#}\n"))
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
    let scratch = arguments.options.scratch.clone();
    let scratch = scratch.or_else(|| env::var_os("TMPDIR").map(PathBuf::from));
    let scratch = scratch.unwrap_or_else(|| SCRATCH.into());
    let limits = &arguments.options.limits;
    let options = image::Options {
        platform: arguments.options.platform.as_ref(),
        limits,
        scratch: &scratch,
        registry: &registry(&arguments.options),
    };
    let image = image::open(&arguments.image, &options);
    let image = image.map_err(|error| SourceError::Open(Box::new(error)))?;
    let assembled = image::assemble(&image, limits, &scratch, date()?, &|_, _| {})?;
    Ok(Read { image, assembled })
}

/// How registries are used.
fn registry(options: &ImageOptions) -> RegistryOptions {
    let below =
        |variable: &str, path: &str| env::var_os(variable).map(|dir| PathBuf::from(dir).join(path));
    let standard =
        || below("XDG_CACHE_HOME", CACHE).or_else(|| below("HOME", &format!(".cache/{CACHE}")));
    RegistryOptions {
        insecure: options.insecure,
        mirrors: options.mirrors.clone(),
        timeout: Duration::from_secs(options.timeout),
        cache: if options.no_cache {
            None
        } else {
            options.cache.clone().or_else(standard)
        },
    }
}

/// The date of what is made of an image.
pub(crate) fn date_of(arguments: &ImageArguments) -> Result<i64, CommandError> {
    let failed = |source| CommandError::Image {
        image: arguments.image.to_string(),
        source: Box::new(source),
    };
    date().map_err(failed)
}

/// What `SOURCE_DATE_EPOCH` says, or 1970.
fn date() -> Result<i64, SourceError> {
    match env::var(DATE) {
        Ok(text) => text.parse().map_err(|_| SourceError::Date(text)),
        Err(env::VarError::NotPresent) => Ok(0),
        Err(env::VarError::NotUnicode(text)) => {
            Err(SourceError::Date(text.to_string_lossy().into_owned()))
        }
    }
}
