//! From the arguments that name an image to its tree.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::additions::{AdditionError, Additions};
use crate::cli::ImageOptions;
use crate::image::{self, AssembleError, Assembled, Image, OpenError, Reference};
use crate::registry::RegistryOptions;

use super::CommandError;
use super::progress::Layers;

/// Where layers are unpacked unless something else is said: on a disk, where `/tmp` may be memory.
const SCRATCH: &str = "/var/tmp";
/// Where blobs are kept, below the directory for caches.
const CACHE: &str = "husk/blobs";
/// The date of what the image says none of, and of images themselves (reproducible-builds.org).
pub(super) const DATE: &str = "SOURCE_DATE_EPOCH";

/// Why an image has no tree.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Open(Box<OpenError>),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

/// An image as a tree, or nothing as one.
pub(crate) struct Read {
    /// As it was asked for, and what was found.
    pub(crate) image: Option<(String, Image)>,
    pub(crate) assembled: Assembled,
    /// The date of what the image gives none.
    pub(crate) time: i64,
    /// Whether the result is to be JSON.
    pub(crate) json: bool,
}

impl Read {
    /// What the image was called, for errors.
    pub(crate) fn name(&self) -> String {
        let name = self.image.as_ref().map(|(name, _)| name.clone());
        name.unwrap_or_else(|| "of nothing".to_owned())
    }

    /// Puts into the tree what is wanted there.
    pub(crate) fn add(&mut self, additions: &Additions) -> Result<(), AdditionError> {
        let Assembled { tree, contents, .. } = &mut self.assembled;
        additions.apply(tree, contents, self.time)
    }

    /// The result of a command as JSON, where that was asked for: what the image is, and what the command made of it.
    pub(crate) fn result(&self, mut result: Value) -> Option<String> {
        if !self.json {
            return None;
        }
        if let Some((name, image)) = &self.image {
            result["image"] = json!({
                "image": name,
                "digest": image.digest.map(|digest| digest.to_string()),
                "config_digest": image.config.as_ref().map(|(digest, _)| digest.to_string()),
                "layers": &self.assembled.layers,
            });
        }
        Some(format!("{result:#}\n"))
    }
}

/// Finds an image and merges its layers; without one the tree is empty.
pub(crate) fn read(
    image: Option<&Reference>,
    options: &ImageOptions,
) -> Result<Read, CommandError> {
    let time = date()?;
    let (image, assembled) = match image {
        Some(reference) => {
            let read = read_image(reference, options, time);
            let (image, assembled) = read.map_err(|source| CommandError::Image {
                image: reference.to_string(),
                source: Box::new(source),
            })?;
            (Some((reference.to_string(), image)), assembled)
        }
        None => (None, Assembled::empty(time)),
    };
    Ok(Read {
        image,
        assembled,
        time,
        json: options.json,
    })
}

/// Where layers are unpacked.
pub(crate) fn scratch(options: &ImageOptions) -> PathBuf {
    let scratch = options.scratch.clone();
    let scratch = scratch.or_else(|| env::var_os("TMPDIR").map(PathBuf::from));
    scratch.unwrap_or_else(|| SCRATCH.into())
}

fn read_image(
    reference: &Reference,
    options: &ImageOptions,
    time: i64,
) -> Result<(Image, Assembled), SourceError> {
    let scratch = scratch(options);
    let limits = &options.limits;
    let open = image::Options {
        platform: options.platform.as_ref(),
        limits,
        scratch: &scratch,
        registry: &registry(options),
    };
    let image = image::open(reference, &open);
    let image = image.map_err(|error| SourceError::Open(Box::new(error)))?;
    let layers = Layers::new(&image);
    let progress = |layer, bytes| layers.read(layer, bytes);
    let assembled = image::assemble(&image, limits, &scratch, time, &progress)?;
    Ok((image, assembled))
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

/// The date of what is made: what `SOURCE_DATE_EPOCH` says, or 1970.
fn date() -> Result<i64, CommandError> {
    match env::var(DATE) {
        Ok(text) => text.parse().map_err(|_| CommandError::Date(text)),
        Err(env::VarError::NotPresent) => Ok(0),
        Err(env::VarError::NotUnicode(text)) => {
            Err(CommandError::Date(text.to_string_lossy().into_owned()))
        }
    }
}
