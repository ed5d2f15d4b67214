//! Images: where they are kept, what they are made of, and how their layers become one tree.

mod assemble;
mod documents;
mod open;
mod platform;
mod reference;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;

pub(crate) use assemble::{AssembleError, Assembled, assemble};
pub(crate) use documents::{DocumentError, Repository, Resolved};
#[cfg(fuzzing)]
pub(crate) use open::layout;
pub(crate) use open::{OpenError, Options, open};
pub(crate) use platform::Platform;
#[cfg(fuzzing)]
pub(crate) use reference::Selection;
pub(crate) use reference::{Reference, ReferenceError};
pub(crate) use store::{Content, Store};

/// An image that was found; its documents are verified, its layers are not read yet.
pub(crate) struct Image {
    /// The digest of its manifest, if it has one.
    pub(crate) digest: Option<Digest>,
    /// Its configuration and the digest of that, if it has one.
    pub(crate) config: Option<(Digest, ImageConfiguration)>,
    pub(crate) content: ImageContent,
}

/// What an image is made of.
pub(crate) enum ImageContent {
    /// Layers, bottom first.
    Layers(Vec<Layer>),
    /// A directory, as it is.
    Directory(PathBuf),
}

/// A layer, and where it is.
pub(crate) struct Layer {
    /// What it is called in messages.
    pub(crate) name: String,
    /// Digest and length as it is kept, where the image says them.
    pub(crate) packed: Option<(Digest, u64)>,
    /// Digest of what it unpacks to, where the image says it.
    pub(crate) diff_id: Option<Digest>,
    store: Arc<dyn Store>,
    file: String,
}
