//! From an image to its tree: layers are unpacked side by side, verified, and applied one after the other.

use std::io::Read as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use thiserror::Error;

use crate::contents::{Contents, ContentsError};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::spool::{self, Spool, SpoolError};
use crate::tar::Reader;
use crate::tree::{self, HostError, LayerError, Tree, Usage};

use super::{Image, ImageContent, Layer};

/// Layers that are unpacked at the same time, at most.
const MAX_PARALLEL: usize = 8;

/// Why an image has no tree.
#[derive(Debug, Error)]
pub(crate) enum AssembleError {
    #[error("the image has {found} layers, more than {limit} (--max-layers)")]
    Layers { found: usize, limit: usize },
    #[error("the image has no layers")]
    Empty,
    #[error("cannot open layer {layer}")]
    Open {
        layer: String,
        source: std::io::Error,
    },
    #[error("layer {layer}")]
    Unpack { layer: String, source: SpoolError },
    #[error("layer {layer} has {found} bytes, but should have {expected}")]
    Length {
        layer: String,
        expected: u64,
        found: u64,
    },
    #[error("layer {layer} is not what its digest says: it has {found}")]
    Digest { layer: String, found: Digest },
    #[error("layer {layer} unpacks to {found}, but the configuration says {expected}")]
    DiffId {
        layer: String,
        expected: Digest,
        found: Digest,
    },
    #[error("layer {layer}")]
    Apply { layer: String, source: LayerError },
    #[error(transparent)]
    Directory(#[from] HostError),
    #[error(transparent)]
    Contents(#[from] ContentsError),
}

type Result<T> = std::result::Result<T, AssembleError>;

/// What becomes of an image.
pub(crate) struct Assembled {
    pub(crate) tree: Tree,
    pub(crate) contents: Contents,
    /// What was read of the layers, bottom first.
    pub(crate) layers: Vec<LayerSummary>,
}

impl Assembled {
    /// What becomes of no image: nothing but a root. `time` is the date of it.
    pub(crate) fn empty(time: i64) -> Self {
        Self {
            tree: Tree::new(time),
            contents: Contents::of_layers(Vec::new()),
            layers: Vec::new(),
        }
    }
}

/// What a layer turned out to be.
#[derive(Debug, serde::Serialize)]
pub(crate) struct LayerSummary {
    pub(crate) name: String,
    /// Digest and length as it is kept.
    pub(crate) digest: String,
    pub(crate) size: u64,
    /// Digest and length of what it unpacks to.
    pub(crate) diff_id: String,
    pub(crate) unpacked_size: u64,
}

/// Tells of layers that are read: the number of the layer, and bytes.
pub(crate) type Progress<'a> = &'a (dyn Fn(usize, u64) + Sync);

/// Makes the tree of an image. `time` is the date of directories that no layer describes.
pub(crate) fn assemble(
    image: &Image,
    limits: &Limits,
    scratch: &Path,
    time: i64,
    progress: Progress<'_>,
) -> Result<Assembled> {
    let layers = match &image.content {
        ImageContent::Directory(path) => {
            let tree = tree::read_directory(path, limits)?;
            let contents = Contents::of_directory(path)?;
            return Ok(Assembled {
                tree,
                contents,
                layers: Vec::new(),
            });
        }
        ImageContent::Layers(layers) => layers,
    };
    if layers.is_empty() {
        return Err(AssembleError::Empty);
    }
    if layers.len() > limits.max_layers {
        return Err(AssembleError::Layers {
            found: layers.len(),
            limit: limits.max_layers,
        });
    }
    let spools = unpack_all(layers, limits, scratch, progress)?;
    let mut tree = Tree::new(time);
    let mut usage = Usage::default();
    let mut summaries = Vec::new();
    for (number, (layer, spool)) in layers.iter().zip(&spools).enumerate() {
        let reader = Reader::new(&spool.file, spool.length);
        let applied = tree::apply(&mut tree, number, reader, limits, &mut usage);
        applied.map_err(|source| AssembleError::Apply {
            layer: layer.name.clone(),
            source,
        })?;
        summaries.push(LayerSummary {
            name: layer.name.clone(),
            digest: spool.packed.0.to_string(),
            size: spool.packed.1,
            diff_id: spool.digest.to_string(),
            unpacked_size: spool.length,
        });
    }
    let files = spools.into_iter().map(|spool| spool.file).collect();
    Ok(Assembled {
        tree,
        contents: Contents::of_layers(files),
        layers: summaries,
    })
}

/// Unpacks every layer, some at the same time. The first failure, in the order of the layers, is the one that is told.
fn unpack_all(
    layers: &[Layer],
    limits: &Limits,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<Vec<Spool>> {
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_PARALLEL)
        .min(layers.len());
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Spool>>>> =
        layers.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(layer) = layers.get(number) else {
                        return;
                    };
                    let result = unpack(layer, limits, scratch, &|bytes| progress(number, bytes));
                    if result.is_err() {
                        // The others need not begin any more.
                        next.store(layers.len(), Ordering::Relaxed);
                    }
                    if let Ok(mut slot) = results[number].lock() {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    let mut spools = Vec::new();
    let mut all = 0_u64;
    for result in results {
        let result = result.into_inner().ok().flatten();
        // A layer that was not begun comes after one that failed.
        let Some(result) = result else { continue };
        let spool = result?;
        all = all.saturating_add(spool.length);
        spools.push(spool);
    }
    if let Some(layer) = layers
        .get(spools.len().saturating_sub(1))
        .filter(|_| all > limits.max_size)
    {
        let source = SpoolError::TooLarge(limits.max_size);
        return Err(AssembleError::Unpack {
            layer: layer.name.clone(),
            source,
        });
    }
    Ok(spools)
}

/// Unpacks a layer and verifies it.
fn unpack(
    layer: &Layer,
    limits: &Limits,
    scratch: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Spool> {
    let name = || layer.name.clone();
    let opened = layer.store.open(&layer.file);
    let (content, size) = opened.map_err(|source| AssembleError::Open {
        layer: name(),
        source,
    })?;
    // A byte more than there should be shows that there is more.
    let most = layer
        .packed
        .map_or(u64::MAX, |(_, expected)| expected.saturating_add(1));
    // Told by length alone that it is wrong, nothing of it is read.
    if let Some((_, expected)) = layer
        .packed
        .filter(|(_, expected)| size.is_some_and(|size| size != *expected))
    {
        return Err(AssembleError::Length {
            layer: name(),
            expected,
            found: size.unwrap_or_default(),
        });
    }
    let spool = spool::fill(content.take(most), scratch, limits.max_size, progress);
    let spool = spool.map_err(|source| AssembleError::Unpack {
        layer: name(),
        source,
    })?;
    match layer.packed {
        Some((_, expected)) if expected != spool.packed.1 => {
            return Err(AssembleError::Length {
                layer: name(),
                expected,
                found: spool.packed.1,
            });
        }
        Some((digest, _)) if digest != spool.packed.0 => {
            return Err(AssembleError::Digest {
                layer: name(),
                found: spool.packed.0,
            });
        }
        _ => {}
    }
    match layer.diff_id {
        Some(expected) if expected != spool.digest => Err(AssembleError::DiffId {
            layer: name(),
            expected,
            found: spool.digest,
        }),
        _ => Ok(spool),
    }
}
