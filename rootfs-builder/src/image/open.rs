//! Finds the image that a reference means.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, OciLayout};
use serde::Deserialize;
use thiserror::Error;

use crate::digest::Digest;
use crate::limits::{Limits, MAX_CONFIG, MAX_MANIFEST};
use crate::registry::{self, FetchError, RegistryOptions};
use crate::spool::{self, SpoolError};
use crate::tar::TarError;

use super::documents::{self, DocumentError, Repository, Resolved};
use super::platform::Platform;
use super::reference::{Reference, Selection, Transport};
use super::store::{self, Archive, Store};
use super::{Image, ImageContent, Layer};

/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why there is no such image.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot unpack {}", path.display())]
    Unpack { path: PathBuf, source: SpoolError },
    #[error("cannot read the archive {}", path.display())]
    Archive { path: PathBuf, source: TarError },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{found} images are there; one must be chosen: {names}")]
    Ambiguous { found: usize, names: String },
    #[error("no image is called {wanted}; there are: {names}")]
    NoSuchName { wanted: String, names: String },
    #[error("the archive has {layers} layers, but its configuration {diff_ids}")]
    Layers { layers: usize, diff_ids: usize },
    #[error("the configuration {name} is not what its name says: it has {found}")]
    Config { name: String, found: Digest },
}

type Result<T> = std::result::Result<T, OpenError>;

/// What decides which image it is, and what finding it may cost.
pub(crate) struct Options<'a> {
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) limits: &'a Limits,
    pub(crate) registry: &'a RegistryOptions,
    /// Where a compressed archive is unpacked to.
    pub(crate) scratch: &'a Path,
}

/// Finds an image and verifies its documents.
pub(crate) fn open(reference: &Reference, options: &Options<'_>) -> Result<Image> {
    match &reference.transport {
        Transport::OciDirectory(path, selection) => {
            let store = store::Directory::open(path);
            let store = store.map_err(|source| OpenError::Open {
                path: path.clone(),
                source,
            })?;
            layout(Arc::new(store), selection, options)
        }
        Transport::OciArchive(path, selection) => {
            layout(Arc::new(archive(path, options)?), selection, options)
        }
        Transport::DockerArchive(path, name) => docker(
            &(Arc::new(archive(path, options)?) as _),
            name.as_deref(),
            options,
        ),
        Transport::Directory(path) => Ok(Image {
            digest: None,
            config: None,
            content: ImageContent::Directory(path.clone()),
        }),
        Transport::Tar(path) => tar(path),
        Transport::Registry(name) => Ok(resolved(registry::resolve(
            name,
            options.registry,
            options.platform,
        )?)),
    }
}

/// Opens a tar archive, which is unpacked first when it is compressed.
fn archive(path: &Path, options: &Options<'_>) -> Result<Archive> {
    let file = regular(path)?;
    let spool = spool::fill(file, options.scratch, options.limits.max_size, &|_| {});
    let spool = spool.map_err(|source| OpenError::Unpack {
        path: path.to_owned(),
        source,
    })?;
    let archive = Archive::open(spool.file, spool.length);
    archive.map_err(|source| OpenError::Archive {
        path: path.to_owned(),
        source,
    })
}

fn regular(path: &Path) -> Result<File> {
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    // The type first: opening a FIFO would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    File::open(path).map_err(failed)
}

/// An image in the layout of OCI.
pub(crate) fn layout(
    store: Arc<dyn Store>,
    selection: &Selection,
    options: &Options<'_>,
) -> Result<Image> {
    let _layout: OciLayout = documents::parse(
        "oci-layout",
        &documents::read(&*store, "oci-layout", MAX_MANIFEST)?,
    )?;
    let index = documents::read(&*store, "index.json", MAX_MANIFEST)?;
    let index: ImageIndex = documents::parse("index.json", &index)?;
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let repository = Repository {
        store,
        manifest_name: blob,
        blob_name: blob,
    };
    let start = select(index.manifests(), selection, options.platform)?;
    let found = repository.resolve(&start, options.platform)?;
    Ok(resolved(found))
}

fn resolved(found: Resolved) -> Image {
    Image {
        digest: Some(found.digest),
        config: Some((found.config_digest, found.config)),
        content: ImageContent::Layers(found.layers),
    }
}

fn ref_name(descriptor: &Descriptor) -> Option<&String> {
    descriptor
        .annotations()
        .as_ref()
        .and_then(|all| all.get(REF_NAME))
}

/// The entry of a layout's index that is meant.
fn select(
    entries: &[Descriptor],
    selection: &Selection,
    platform: Option<&Platform>,
) -> Result<Descriptor> {
    let named = |entry: &&Descriptor| {
        let tag = selection.tag.is_none() || ref_name(entry) == selection.tag.as_ref();
        let digest = selection.digest.map(|digest| digest.to_string());
        tag && digest.is_none_or(|digest| entry.digest().as_ref() == digest)
    };
    let found: Vec<Descriptor> = entries.iter().filter(named).cloned().collect();
    let names = || {
        let names = entries.iter().map(|entry| match ref_name(entry) {
            Some(name) => name.clone(),
            None => format!("@{}", entry.digest()),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let tag = selection.tag.clone().unwrap_or_default();
            let digest = selection.digest.map(|digest| format!("@{digest}"));
            Err(OpenError::NoSuchName {
                wanted: tag + &digest.unwrap_or_default(),
                names: names(),
            })
        }
        // One image for several platforms, without an index of its own.
        several
            if several.iter().all(|entry| {
                entry.platform().is_some() && ref_name(entry) == ref_name(&several[0])
            }) =>
        {
            Ok(documents::choose("index.json", several, platform)?)
        }
        several => Err(OpenError::Ambiguous {
            found: several.len(),
            names: names(),
        }),
    }
}

/// What `docker save` says of one image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image in the archive that `docker save` writes.
fn docker(store: &Arc<dyn Store>, name: Option<&str>, options: &Options<'_>) -> Result<Image> {
    let saved = documents::read(&**store, "manifest.json", MAX_MANIFEST)?;
    let saved: Vec<Saved> = documents::parse("manifest.json", &saved)?;
    let image = choose_saved(&saved, name)?;
    let bytes = documents::read(&**store, &image.config, MAX_CONFIG)?;
    let digest = Digest::of(&bytes);
    verify_config_name(&image.config, digest)?;
    let config: ImageConfiguration = documents::parse(&image.config, &bytes)?;
    documents::check_platform(&image.config, &config, options.platform)?;
    let diff_ids = documents::diff_ids(&image.config, &config)?;
    if diff_ids.len() != image.layers.len() {
        return Err(OpenError::Layers {
            layers: image.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let layers = image
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(file, diff_id)| Layer {
            name: file.clone(),
            packed: None,
            diff_id: Some(diff_id),
            store: Arc::clone(store),
            file: file.clone(),
        });
    let content = ImageContent::Layers(layers.collect());
    Ok(Image {
        digest: None,
        config: Some((digest, config)),
        content,
    })
}

fn choose_saved<'a>(saved: &'a [Saved], name: Option<&str>) -> Result<&'a Saved> {
    let tags = |image: &'a Saved| image.repo_tags.iter().flatten();
    let names = || {
        saved
            .iter()
            .flat_map(tags)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (saved, name) {
        ([only], None) => Ok(only),
        (several, None) => Err(OpenError::Ambiguous {
            found: several.len(),
            names: names(),
        }),
        (all, Some(name)) => {
            // A name without a tag means `latest`, as everywhere with Docker.
            let latest = format!("{name}:latest");
            let found = all
                .iter()
                .find(|image| tags(image).any(|tag| tag == name || *tag == latest));
            found.ok_or_else(|| OpenError::NoSuchName {
                wanted: name.to_owned(),
                names: names(),
            })
        }
    }
}

/// The configuration's file is named by its digest: `HEX.json` or `blobs/sha256/HEX`.
fn verify_config_name(name: &str, found: Digest) -> Result<()> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.strip_suffix(".json").unwrap_or(file);
    let named = format!("sha256:{stem}").parse::<Digest>();
    if named.is_ok_and(|named| named != found) {
        return Err(OpenError::Config {
            name: name.to_owned(),
            found,
        });
    }
    Ok(())
}

/// An archive of a root file system: one layer without documents.
fn tar(path: &Path) -> Result<Image> {
    regular(path)?;
    let layer = Layer {
        name: path.display().to_string(),
        packed: None,
        diff_id: None,
        store: Arc::new(store::SingleFile(path.to_owned())),
        file: String::new(),
    };
    Ok(Image {
        digest: None,
        config: None,
        content: ImageContent::Layers(vec![layer]),
    })
}
