//! Requests to one repository of one registry.

use std::io::{self, Read as _};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use oci_spec::image::Descriptor;
use thiserror::Error;
use ureq::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::digest::Digest;
use crate::image::{Content, Store};
use crate::limits::{MAX_BLOB, MAX_MANIFEST};

use super::auth::{self, Challenge};
use super::cache::Cache;
use super::name::RegistryName;
use super::{RegistryOptions, descriptor, tls};

/// The documents that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Redirects that follow each other.
const MAX_REDIRECTS: usize = 5;
/// Times that something is asked for, when a registry is busy or broken.
const TRIES: u32 = 4;
/// The longest wait between them.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Largest answer of a server of tokens.
const MAX_TOKEN: u64 = 1 << 20;

/// Why a registry gives nothing.
#[derive(Debug, Error)]
pub(crate) enum RegistryError {
    #[error("{url}")]
    Request {
        url: String,
        source: Box<ureq::Error>,
    },
    #[error("{url}: not found")]
    NotFound { url: String },
    #[error("{url}: the registry wants to know who asks, and refuses what it was told ({status})")]
    Unauthorized { url: String, status: u16 },
    #[error("{url}: too many requests, also after {TRIES} tries")]
    RateLimited { url: String },
    #[error("{url}: answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: redirects to nowhere, or more than {MAX_REDIRECTS} times")]
    Redirect { url: String },
    #[error("{url}: redirects to {target}, which is not safe")]
    UnsafeRedirect { url: String, target: String },
    #[error("{url}: cannot read the answer")]
    Read { url: String, source: io::Error },
    #[error("{url}: the answer has more than {limit} bytes")]
    Large { url: String, limit: u64 },
    #[error("{url}: is {found}, not {wanted}")]
    Digest {
        url: String,
        wanted: Digest,
        found: Digest,
    },
    #[error("{url}: the server of tokens gives none")]
    Token { url: String },
}

type Result<T> = std::result::Result<T, RegistryError>;

/// A repository, and who asks.
pub(super) struct Client {
    agent: Agent,
    base: String,
    insecure: bool,
    /// What is sent as proof of who asks, to the registry and nobody else.
    authorization: Mutex<Option<String>>,
    credentials: Option<String>,
    scope: String,
    cache: Option<Cache>,
}

impl Client {
    pub(super) fn new(host: &str, name: &RegistryName, options: &RegistryOptions) -> Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("husk-rootfs")
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout));
        if !options.insecure {
            config = config.tls_config(tls::config(host));
        }
        let scheme = if options.insecure { "http" } else { "https" };
        // Credentials are kept under the name of the registry, not under that of its server.
        let known = if host == name.server() {
            &name.host
        } else {
            host
        };
        Ok(Self {
            agent: config.build().into(),
            base: format!("{scheme}://{host}/v2/{}", name.path),
            insecure: options.insecure,
            authorization: Mutex::new(None),
            credentials: auth::credentials(known),
            scope: format!("repository:{}:pull", name.path),
            cache: options.cache.as_deref().map(Cache::new),
        })
    }

    /// What describes the manifest of a tag or a digest, as the registry has it.
    pub(super) fn manifest(&self, reference: &str, digest: Option<Digest>) -> Result<Descriptor> {
        let url = format!("{}/manifests/{reference}", self.base);
        let response = self.get(&url, MANIFESTS)?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = media_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let bytes = read(&url, response, MAX_MANIFEST)?;
        let found = Digest::of(&bytes);
        match digest {
            Some(wanted) if wanted != found => Err(RegistryError::Digest { url, wanted, found }),
            _ => Ok(descriptor(&media_type, &bytes)),
        }
    }

    /// Gets something, however often it takes: after a challenge, after a redirect, when the registry is busy.
    fn get(&self, url: &str, accept: &str) -> Result<Response<Body>> {
        let mut tries = 0;
        let mut challenged = false;
        loop {
            let (at, response) = self.follow(url, accept)?;
            let status = response.status().as_u16();
            match status {
                200 => return Ok(response),
                // Whoever a redirect leads to must not say where the credentials go.
                401 if !challenged && same_host(&at, &self.base) => {
                    challenged = true;
                    self.answer(&at, &response)?;
                }
                401 | 403 => return Err(RegistryError::Unauthorized { url: at, status }),
                404 => {
                    return Err(RegistryError::NotFound {
                        url: url.to_owned(),
                    });
                }
                429 | 500..=599 => {
                    tries += 1;
                    if tries == TRIES {
                        let url = url.to_owned();
                        let limited = RegistryError::RateLimited { url: url.clone() };
                        return Err(if status == 429 {
                            limited
                        } else {
                            RegistryError::Status { url, status }
                        });
                    }
                    thread::sleep(wait(&response, tries));
                }
                _ => {
                    return Err(RegistryError::Status {
                        url: url.to_owned(),
                        status,
                    });
                }
            }
        }
    }

    /// One request, and those that its redirects lead to; the last of their addresses, and its answer.
    fn follow(&self, url: &str, accept: &str) -> Result<(String, Response<Body>)> {
        let mut at = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&at).header(ACCEPT, accept);
            let authorization = self.authorization.lock().ok().and_then(|held| held.clone());
            if let Some(authorization) = authorization.filter(|_| same_host(&at, &self.base)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.call();
            let response = response.map_err(|error| RegistryError::Request {
                url: at.clone(),
                source: Box::new(error),
            })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((at, response));
            }
            let target = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let target = target.ok_or_else(|| RegistryError::Redirect { url: at.clone() })?;
            at = self.redirected(&at, target)?;
        }
        Err(RegistryError::Redirect {
            url: url.to_owned(),
        })
    }

    /// Where a redirect leads; never from TLS to none, and never to anything but a web server.
    fn redirected(&self, from: &str, target: &str) -> Result<String> {
        let unsafe_redirect = || RegistryError::UnsafeRedirect {
            url: from.to_owned(),
            target: target.to_owned(),
        };
        if target.starts_with('/') && !target.starts_with("//") {
            let uri: Uri = from.parse().map_err(|_| unsafe_redirect())?;
            let (scheme, host) = uri
                .scheme_str()
                .zip(uri.authority())
                .ok_or_else(unsafe_redirect)?;
            return Ok(format!("{scheme}://{host}{target}"));
        }
        let safe =
            target.starts_with("https://") || (self.insecure && target.starts_with("http://"));
        if safe {
            Ok(target.to_owned())
        } else {
            Err(unsafe_redirect())
        }
    }

    /// Gets what proves who asks, by the challenge of the registry.
    fn answer(&self, url: &str, response: &Response<Body>) -> Result<()> {
        let unauthorized = || RegistryError::Unauthorized {
            url: url.to_owned(),
            status: 401,
        };
        let header = response
            .headers()
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        let challenge = header.and_then(auth::challenge).ok_or_else(unauthorized)?;
        let authorization = match challenge {
            Challenge::Basic => {
                let credentials = self.credentials.as_ref().ok_or_else(unauthorized)?;
                format!("Basic {credentials}")
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let scope = scope.unwrap_or_else(|| self.scope.clone());
                format!(
                    "Bearer {}",
                    self.token(url, &realm, service.as_deref(), &scope)?
                )
            }
        };
        if let Ok(mut held) = self.authorization.lock() {
            *held = Some(authorization);
        }
        Ok(())
    }

    fn token(&self, url: &str, realm: &str, service: Option<&str>, scope: &str) -> Result<String> {
        let realm = self.redirected(url, realm)?;
        let mut request = self.agent.get(&realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, format!("Basic {credentials}"));
        }
        let response = request.call();
        let response = response.map_err(|error| RegistryError::Request {
            url: realm.clone(),
            source: Box::new(error),
        })?;
        let none = || RegistryError::Token { url: realm.clone() };
        if response.status().as_u16() != 200 {
            return Err(none());
        }
        let bytes = read(&realm, response, MAX_TOKEN)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| none())?;
        let token = value.get("token").or_else(|| value.get("access_token"));
        token
            .and_then(|token| token.as_str())
            .map(str::to_owned)
            .ok_or_else(none)
    }
}

impl Store for Client {
    fn open(&self, name: &str) -> io::Result<Content> {
        let digest = name
            .strip_prefix("blobs/")
            .and_then(|digest| digest.parse::<Digest>().ok());
        if let Some(file) = digest.and_then(|digest| self.cache.as_ref()?.get(&digest)) {
            let length = file.metadata()?.len();
            return Ok((Box::new(file), Some(length)));
        }
        let accept = if digest.is_some() { "*/*" } else { MANIFESTS };
        let response = self
            .get(&format!("{}/{name}", self.base), accept)
            .map_err(io::Error::other)?;
        let length = response.body().content_length();
        let body = response.into_body().into_reader();
        match (digest, &self.cache) {
            (Some(digest), Some(cache)) => {
                let kept = cache.keep(digest, body.take(MAX_BLOB))?;
                Ok((Box::new(kept), length))
            }
            _ => Ok((Box::new(body), length)),
        }
    }
}

fn same_host(one: &str, other: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some((
            uri.scheme_str()?.to_owned(),
            uri.authority()?.as_str().to_owned(),
        ))
    };
    origin(one).is_some_and(|found| Some(found) == origin(other))
}

fn read(url: &str, response: Response<Body>, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = response
        .into_body()
        .into_reader()
        .take(limit + 1)
        .read_to_end(&mut bytes);
    read.map_err(|source| RegistryError::Read {
        url: url.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > limit {
        return Err(RegistryError::Large {
            url: url.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// How long to wait for the next try: as the registry says, or longer each time.
fn wait(response: &Response<Body>, tries: u32) -> Duration {
    let header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    header
        .map_or(Duration::from_millis(250 << tries), Duration::from_secs)
        .min(MAX_WAIT)
}
