//! Registries with TLS: whom husk-rootfs believes, and whom not. The certificates are made by openssl (Debian package openssl).
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use support::registry::{Server, files, pull, status};
use support::stderr;
use tempfile::TempDir;

/// An authority that signs certificates.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl("ca", "basicConstraints=critical,CA:TRUE", &[]);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes the key and the certificate `name` with these extensions.
    fn openssl(&self, name: &str, extensions: &str, signer: &[&Path]) {
        let config = format!(
            "[req]\ndistinguished_name=dn\nx509_extensions=e\nprompt=no\n[dn]\nCN={name}\n[e]\n{extensions}\n"
        );
        fs::write(self.path("config"), config).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "2"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.arg("-config").arg(self.path("config"));
        openssl
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")));
        openssl.arg("-out").arg(self.path(&format!("{name}.crt")));
        if let [certificate, key] = signer {
            openssl.arg("-CA").arg(certificate).arg("-CAkey").arg(key);
        }
        let output = openssl.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// The settings of a server that is `name`.
    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName=DNS:{name}");
        self.openssl(
            name,
            &extensions,
            &[&self.path("ca.crt"), &self.path("ca.key")],
        );
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.unwrap())
    }
}

/// A registry that answers rightly, and knows itself by this name.
fn honest(config: Arc<ServerConfig>) -> Server {
    let (files, _) = files();
    Server::secure(config, move |path, _| {
        files
            .get(path)
            .cloned()
            .unwrap_or_else(|| status("404 Not Found"))
    })
}

#[test]
fn a_registry_that_a_known_authority_speaks_for_is_believed() {
    let authority = Authority::new();
    let server = honest(authority.server("localhost"));
    let known = |command: &mut Command| {
        command.env("SSL_CERT_FILE", authority.path("ca.crt"));
    };
    pull(&server, &[], |_, command| known(command)).holds();
}

#[test]
fn a_registry_that_nobody_speaks_for_is_told_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = honest(authority.server("localhost"));
    pull(&server, &[], |_, command| {
        command.env("SSL_CERT_FILE", other.path("ca.crt"));
    })
    .refused("invalid peer certificate");
    pull(&server, &[], |_, command| {
        command.env("SSL_CERT_FILE", "/dev/null");
    })
    .refused("invalid peer certificate: UnknownIssuer");
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[test]
fn a_registry_of_another_name_is_told_nothing() {
    let authority = Authority::new();
    let server = honest(authority.server("elsewhere.example"));
    pull(&server, &[], |_, command| {
        command.env("SSL_CERT_FILE", authority.path("ca.crt"));
    })
    .refused("invalid peer certificate: certificate not valid for name \"localhost\"");
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[test]
fn no_redirect_leads_from_tls_to_none() {
    let authority = Authority::new();
    let server = Server::secure(authority.server("localhost"), |_, _| {
        status("302 Found\r\nLocation: http://127.0.0.1:1/")
    });
    pull(&server, &[], |_, command| {
        command.env("SSL_CERT_FILE", authority.path("ca.crt"));
    })
    .refused("redirects to http://127.0.0.1:1/, which is not safe");
}
