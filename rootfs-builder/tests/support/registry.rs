//! A registry that says what a test wants it to say, with TLS or without.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::layout::{LAYER, Layout, MANIFEST, digest};
use super::place::Place;
use super::tar::{Entry, archive};
use super::{husk_rootfs, is_root, listing, stderr};

/// An answer: the header of a response and its body.
pub(crate) type Answer = (String, Vec<u8>);

pub(crate) fn ok(media_type: &str, body: &[u8]) -> Answer {
    (
        format!(
            "200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}",
            body.len()
        ),
        body.to_vec(),
    )
}

pub(crate) fn status(text: &str) -> Answer {
    (format!("{text}\r\nContent-Length: 0"), Vec::new())
}

/// A registry that answers by path, and remembers what it was asked.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    secure: bool,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, answer)
    }

    /// A registry with TLS, which calls itself `localhost`.
    pub(crate) fn secure(
        config: Arc<ServerConfig>,
        answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(config), answer)
    }

    /// A registry that somebody else runs, or nobody.
    pub(crate) fn at(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            asked: Arc::default(),
            secure: false,
        }
    }

    fn start(
        config: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let address = match config {
            Some(_) => format!("localhost:{}", address.port()),
            None => address.to_string(),
        };
        let secure = config.is_some();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        // Ends with the program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                let config = config.clone();
                thread::spawn(move || match config {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        serve(&mut stream, &*answer, &log);
                        stream.conn.send_close_notify();
                        // Who refused the certificate is gone.
                        drop(stream.flush());
                    }
                    None => serve(&mut { stream }, &*answer, &log),
                });
            }
        });
        Self {
            address,
            asked,
            secure,
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request.
fn serve(
    stream: &mut (impl Read + Write),
    answer: &dyn Fn(&str, &str) -> Answer,
    log: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(&mut *stream).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let authorization = headers
        .iter()
        .find_map(|line| line.strip_prefix("authorization: "));
    let authorization = authorization.unwrap_or_default();
    log.lock()
        .unwrap()
        .push(format!("{path} {authorization}").trim().to_owned());
    let (header, body) = answer(&path, authorization);
    // Who hangs up early is right to.
    drop(write!(
        stream,
        "HTTP/1.1 {header}\r\nConnection: close\r\n\r\n"
    ));
    for part in body.chunks(1000) {
        if stream
            .write_all(part)
            .and_then(|()| stream.flush())
            .is_err()
        {
            return;
        }
        if header.contains("X-Slow") {
            thread::sleep(Duration::from_secs(30));
        }
    }
}

/// What a registry that works answers: files of an image by path.
pub(crate) fn files() -> (HashMap<String, Answer>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout(dir.path());
    let layer = archive(&[Entry::file("hello", b"hello")]);
    let manifest = layout.manifest(std::slice::from_ref(&layer));
    let mut files = HashMap::new();
    let of = |digest: &str| {
        fs::read(
            dir.path()
                .join("blobs/sha256")
                .join(&digest["sha256:".len()..]),
        )
        .unwrap()
    };
    let own = manifest["digest"].as_str().unwrap();
    let bytes = of(own);
    let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    files.insert("/v2/a/manifests/latest".to_owned(), ok(MANIFEST, &bytes));
    files.insert(format!("/v2/a/manifests/{own}"), ok(MANIFEST, &bytes));
    for part in [&parsed["config"], &parsed["layers"][0]] {
        let digest = part["digest"].as_str().unwrap();
        files.insert(format!("/v2/a/blobs/{digest}"), ok(LAYER, &of(digest)));
    }
    (files, layer)
}

pub(crate) struct Pull {
    pub(crate) place: Place,
    pub(crate) output: Output,
}

/// Unpacks the image `a` of a server.
pub(crate) fn pull(
    server: &Server,
    options: &[&str],
    prepare: impl FnOnce(&Place, &mut Command),
) -> Pull {
    let place = Place::new();
    let mut command = husk_rootfs();
    command
        .env_remove("http_proxy")
        .env("XDG_CACHE_HOME", place.path("cache"))
        .env("HOME", place.path("home"));
    command.env("REGISTRY_AUTH_FILE", place.path("auth.json"));
    command.arg("unpack").args(options);
    if !server.secure {
        command.arg("--insecure");
    }
    if !is_root() {
        command.arg("--rootless");
    }
    prepare(&place, &mut command);
    let output = command
        .arg(format!("docker://{}/a", server.address))
        .arg(place.path("work/root"))
        .output()
        .unwrap();
    Pull { place, output }
}

impl Pull {
    pub(crate) fn holds(&self) {
        assert!(self.output.status.success(), "{}", stderr(&self.output));
        assert_eq!(
            listing::names(&self.place.path("work/root")),
            ["hello=hello"]
        );
    }

    pub(crate) fn refused(&self, words: &str) {
        let errors = stderr(&self.output);
        assert_eq!(self.output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert_eq!(
            listing::names(&self.place.path("work")),
            Vec::<String>::new()
        );
    }
}

/// A server that answers rightly but for what `change` says.
pub(crate) fn but(
    change: impl Fn(&str, &str, &[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, Vec<u8>) {
    let (files, layer) = files();
    let blob = layer.clone();
    let server = Server::new(move |path, authorization| {
        let changed = change(path, authorization, &blob);
        changed
            .or_else(|| files.get(path).cloned())
            .unwrap_or_else(|| status("404 Not Found"))
    });
    (server, layer)
}

pub(crate) fn is_layer(path: &str, layer: &[u8]) -> bool {
    path.ends_with(&digest(layer))
}
