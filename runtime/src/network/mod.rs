//! The network of a sandbox: which namespace of the host it has.

mod error;
mod namespace;

pub(crate) use error::NetworkError;
pub(crate) use namespace::{Namespace, NamespaceId, Wanted, on_host};
