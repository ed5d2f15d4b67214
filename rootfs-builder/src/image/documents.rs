//! The documents of an image: indexes, a manifest, a configuration. Each is read whole, to a limit, and verified by digest and
//! length before a byte of it is believed.

use std::io::{self, Read};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::digest::{BadDigest, Digest};
use crate::limits::{MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST};

use super::Layer;
use super::platform::Platform;
use super::store::Store;

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Layers as Docker's manifests name them.
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Why the documents of an image cannot be used.
#[derive(Debug, Error)]
pub(crate) enum DocumentError {
    #[error("cannot read {name}")]
    Read { name: String, source: io::Error },
    #[error("{name} has more than {limit} bytes")]
    Large { name: String, limit: u64 },
    #[error("{name} has {found} bytes, but should have {expected}")]
    Length {
        name: String,
        expected: u64,
        found: u64,
    },
    #[error("{name} is not what its digest says: it has {found}")]
    Mismatch { name: String, found: Digest },
    #[error("{name} cannot be understood")]
    Parse {
        name: String,
        source: serde_json::Error,
    },
    #[error("{name} names content by a digest of another kind")]
    Digest { name: String, source: BadDigest },
    #[error("{name} is {found}, where {wanted} is wanted")]
    MediaType {
        name: String,
        found: String,
        wanted: &'static str,
    },
    #[error("{name}: indexes are nested in each other more than {MAX_INDEX_DEPTH} deep")]
    Nested { name: String },
    #[error("{name} has no image for {platform}; it has {found}")]
    Platform {
        name: String,
        platform: Platform,
        found: String,
    },
    #[error("{name} has {layers} layers, but its configuration {diff_ids}")]
    Layers {
        name: String,
        layers: usize,
        diff_ids: usize,
    },
}

type Result<T> = std::result::Result<T, DocumentError>;

/// A store whose files are named by digest.
pub(crate) struct Repository {
    pub(crate) store: Arc<dyn Store>,
    /// The name of an index or a manifest.
    pub(crate) manifest_name: fn(&Digest) -> String,
    /// The name of everything else.
    pub(crate) blob_name: fn(&Digest) -> String,
}

/// A manifest with what it names.
pub(crate) struct Resolved {
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfiguration,
    pub(crate) config_digest: Digest,
    pub(crate) layers: Vec<Layer>,
}

/// The digest in a descriptor.
pub(crate) fn digest(name: &str, descriptor: &Descriptor) -> Result<Digest> {
    let digest = descriptor.digest().as_ref().parse();
    digest.map_err(|source| DocumentError::Digest {
        name: name.to_owned(),
        source,
    })
}

/// Reads a file whole.
pub(crate) fn read(store: &dyn Store, name: &str, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| DocumentError::Read {
        name: name.to_owned(),
        source,
    };
    let (content, _) = store.open(name).map_err(failed)?;
    let mut bytes = Vec::new();
    content
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(DocumentError::Large {
            name: name.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Understands a document.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Parse {
        name: name.to_owned(),
        source,
    })
}

impl Repository {
    /// Reads a document that a descriptor names, verified.
    fn document(
        &self,
        descriptor: &Descriptor,
        file: fn(&Digest) -> String,
        limit: u64,
    ) -> Result<(Digest, Vec<u8>)> {
        let digest = digest("a descriptor", descriptor)?;
        let bytes = read(&*self.store, &file(&digest), limit)?;
        let (name, expected, found) = (digest.to_string(), descriptor.size(), bytes.len() as u64);
        if found != expected {
            return Err(DocumentError::Length {
                name,
                expected,
                found,
            });
        }
        verified(digest, &bytes)?;
        Ok((digest, bytes))
    }

    /// The image that a descriptor leads to, through indexes, for a platform.
    pub(crate) fn resolve(
        &self,
        start: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Resolved> {
        let mut descriptor = start.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            let (digest, bytes) = self.document(&descriptor, self.manifest_name, MAX_MANIFEST)?;
            let name = digest.to_string();
            match kind(&name, descriptor.media_type(), &bytes)? {
                DocumentKind::Index => {
                    let index: ImageIndex = parse(&name, &bytes)?;
                    descriptor = choose(&name, index.manifests(), platform)?;
                }
                DocumentKind::Manifest => {
                    return self.manifest(digest, &parse(&name, &bytes)?, platform);
                }
            }
        }
        Err(DocumentError::Nested {
            name: start.digest().to_string(),
        })
    }

    fn manifest(
        &self,
        digest: Digest,
        manifest: &ImageManifest,
        platform: Option<&Platform>,
    ) -> Result<Resolved> {
        let name = digest.to_string();
        let found = manifest.config().media_type();
        if *found != MediaType::ImageConfig && found.to_string() != DOCKER_CONFIG {
            let (found, wanted) = (found.to_string(), "the configuration of an image");
            return Err(DocumentError::MediaType {
                name,
                found,
                wanted,
            });
        }
        let (config_digest, bytes) =
            self.document(manifest.config(), self.blob_name, MAX_CONFIG)?;
        let config: ImageConfiguration = parse(&config_digest.to_string(), &bytes)?;
        check_platform(&name, &config, platform)?;
        let diff_ids = diff_ids(&name, &config)?;
        if diff_ids.len() != manifest.layers().len() {
            let (layers, diff_ids) = (manifest.layers().len(), diff_ids.len());
            return Err(DocumentError::Layers {
                name,
                layers,
                diff_ids,
            });
        }
        let layers = manifest.layers().iter().zip(diff_ids);
        let layers = layers.map(|(layer, diff_id)| self.layer(&name, layer, diff_id));
        Ok(Resolved {
            digest,
            config,
            config_digest,
            layers: layers.collect::<Result<_>>()?,
        })
    }

    fn layer(&self, manifest: &str, descriptor: &Descriptor, diff_id: Digest) -> Result<Layer> {
        let digest = digest(manifest, descriptor)?;
        let media_type = descriptor.media_type();
        let known = match media_type {
            MediaType::ImageLayer
            | MediaType::ImageLayerGzip
            | MediaType::ImageLayerZstd
            | MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd => true,
            other => DOCKER_LAYERS.contains(&other.to_string().as_str()),
        };
        if !known {
            let (name, found) = (digest.to_string(), media_type.to_string());
            return Err(DocumentError::MediaType {
                name,
                found,
                wanted: "a layer",
            });
        }
        Ok(Layer {
            name: digest.to_string(),
            packed: Some((digest, descriptor.size())),
            diff_id: Some(diff_id),
            store: Arc::clone(&self.store),
            file: (self.blob_name)(&digest),
        })
    }
}

/// Refuses bytes that have another digest.
fn verified(digest: Digest, bytes: &[u8]) -> Result<()> {
    let found = Digest::of(bytes);
    if found != digest {
        return Err(DocumentError::Mismatch {
            name: digest.to_string(),
            found,
        });
    }
    Ok(())
}

/// The digests of the unpacked layers, bottom first.
pub(crate) fn diff_ids(name: &str, config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let parsed = config.rootfs().diff_ids().iter().map(|text| text.parse());
    let parsed: std::result::Result<_, _> = parsed.collect();
    parsed.map_err(|source| DocumentError::Digest {
        name: name.to_owned(),
        source,
    })
}

enum DocumentKind {
    Index,
    Manifest,
}

/// What a document is, which its descriptor and, if it says so itself, the document must agree on.
fn kind(name: &str, media_type: &MediaType, bytes: &[u8]) -> Result<DocumentKind> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let described = media_type.to_string();
    let typed: Typed = parse(name, bytes)?;
    if let Some(found) = typed.media_type.filter(|found| *found != described) {
        let wanted = "what the descriptor says";
        return Err(DocumentError::MediaType {
            name: name.to_owned(),
            found,
            wanted,
        });
    }
    match (media_type, described.as_str()) {
        (MediaType::ImageIndex, _) | (_, DOCKER_INDEX) => Ok(DocumentKind::Index),
        (MediaType::ImageManifest, _) | (_, DOCKER_MANIFEST) => Ok(DocumentKind::Manifest),
        _ => {
            let wanted = "an index or a manifest";
            Err(DocumentError::MediaType {
                name: name.to_owned(),
                found: described,
                wanted,
            })
        }
    }
}

/// The entry of an index for a platform: the first that is for it, or the only one when it does not say.
pub(crate) fn choose(
    name: &str,
    entries: &[Descriptor],
    platform: Option<&Platform>,
) -> Result<Descriptor> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let fitting = |entry: &&Descriptor| {
        entry
            .platform()
            .as_ref()
            .is_some_and(|found| wanted.is(found))
    };
    let found = match entries {
        [only] if only.platform().is_none() => Some(only),
        entries => entries.iter().find(fitting),
    };
    found.cloned().ok_or_else(|| {
        let platforms = entries.iter().map(|entry| match entry.platform() {
            Some(platform) => format!("{}/{}", platform.os(), platform.architecture()),
            None => "one that does not say".to_owned(),
        });
        let mut found: Vec<String> = platforms.collect();
        found.dedup();
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            found.join(", ")
        };
        DocumentError::Platform {
            name: name.to_owned(),
            platform: wanted,
            found,
        }
    })
}

/// Refuses an image for another platform than the one that was asked for by name.
pub(crate) fn check_platform(
    name: &str,
    config: &ImageConfiguration,
    platform: Option<&Platform>,
) -> Result<()> {
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    match platform {
        Some(platform) if !platform.fits(&os, &architecture) => Err(DocumentError::Platform {
            name: name.to_owned(),
            platform: platform.clone(),
            found: format!("{os}/{architecture}"),
        }),
        _ => Ok(()),
    }
}
