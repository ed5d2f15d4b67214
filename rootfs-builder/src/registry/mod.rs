//! Images in registries, by the OCI distribution specification: over TLS, or without it only where that was asked for.
//!
//! What comes from a registry is verified by digest and length by who reads it; here it is made sure that no request waits
//! for ever, that credentials go nowhere but to the registry and to the server of tokens that it names, and that a redirect
//! leads to nothing that is less safe.

mod auth;
mod cache;
mod client;
mod name;
mod tls;

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::{Descriptor, MediaType};

use crate::digest::Digest;
use crate::image::{DocumentError, Platform, Repository, Resolved};

use client::Client;
pub(crate) use client::RegistryError;
pub(crate) use name::{BadName, RegistryName};

/// How registries are used.
#[derive(Clone, Debug)]
pub(crate) struct RegistryOptions {
    /// Without TLS.
    pub(crate) insecure: bool,
    /// Hosts that are asked before that of the name.
    pub(crate) mirrors: Vec<String>,
    /// The longest wait for anything to arrive.
    pub(crate) timeout: Duration,
    /// Where blobs are kept, if they are.
    pub(crate) cache: Option<PathBuf>,
}

/// Why an image cannot be had from its registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Finds an image at the first host that has it: mirrors, then the registry itself.
pub(crate) fn resolve(
    name: &RegistryName,
    options: &RegistryOptions,
    platform: Option<&Platform>,
) -> Result<Resolved, FetchError> {
    for mirror in &options.mirrors {
        if let Ok(found) = resolve_at(mirror, name, options, platform) {
            return Ok(found);
        }
    }
    resolve_at(&name.server(), name, options, platform)
}

fn resolve_at(
    host: &str,
    name: &RegistryName,
    options: &RegistryOptions,
    platform: Option<&Platform>,
) -> Result<Resolved, FetchError> {
    let client = Arc::new(Client::new(host, name, options)?);
    let start = match name.digest {
        // What is pinned is not asked for by name.
        Some(digest) => client.manifest(&digest.to_string(), Some(digest))?,
        None => client.manifest(&name.tag, None)?,
    };
    let repository = Repository {
        store: client,
        manifest_name: |digest: &Digest| format!("manifests/{digest}"),
        blob_name: |digest: &Digest| format!("blobs/{digest}"),
    };
    Ok(repository.resolve(&start, platform)?)
}

/// What describes a manifest that was fetched.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest = oci_spec::image::Digest::from_str(&Digest::of(bytes).to_string());
    let digest = digest.expect("a digest is one");
    Descriptor::new(MediaType::from(media_type), bytes.len() as u64, digest)
}
