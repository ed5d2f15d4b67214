//! Whom to trust: the certificates of this system, and those that were put there for one registry.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where the certificates of the system are, on Debian and on others.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Where engines look for certificates for one registry.
const OF_REGISTRY: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The settings of TLS for a registry.
pub(super) fn config(host: &str) -> TlsConfig {
    let system = match env::var_os("SSL_CERT_FILE") {
        Some(file) => vec![PathBuf::from(file)],
        None => SYSTEM
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists())
            .into_iter()
            .collect(),
    };
    let files = system.into_iter().chain(
        OF_REGISTRY
            .iter()
            .flat_map(|dir| certificates(&Path::new(dir).join(host))),
    );
    let roots: Vec<Certificate<'static>> = files.flat_map(|file| read(&file)).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

fn certificates(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect()
}

fn read(file: &Path) -> Vec<Certificate<'static>> {
    let text = fs::read(file).unwrap_or_default();
    let items = parse_pem(&text).flatten();
    items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect()
}
