//! Images in registries: a scripted one that does everything wrong, and a real one where it is installed.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::layout::{LAYER, Layout, MANIFEST, digest};
use support::place::Place;
use support::registry::{Server, but, files, is_layer, ok, pull, status};
use support::tar::{Entry, archive};
use support::{husk_rootfs, stderr};

#[test]
fn an_image_is_fetched_and_its_blobs_are_kept() {
    let (server, _) = but(|_, _, _| None);
    let cache = tempfile::tempdir().unwrap();
    let cached = ["--cache", cache.path().to_str().unwrap()];
    pull(&server, &cached, |_, _| {}).holds();
    let blobs = |server: &Server| {
        server
            .asked()
            .iter()
            .filter(|path| path.contains("/blobs/"))
            .count()
    };
    assert_eq!(blobs(&server), 2);
    pull(&server, &cached, |_, _| {}).holds();
    assert_eq!(blobs(&server), 2);
    // What was changed in the cache is fetched again.
    for file in fs::read_dir(cache.path().join("sha256")).unwrap() {
        fs::write(file.unwrap().path(), "changed").unwrap();
    }
    pull(&server, &cached, |_, _| {}).holds();
    assert_eq!(blobs(&server), 4);
    pull(&server, &["--no-cache"], |_, _| {}).holds();
    assert_eq!(blobs(&server), 6);
}

#[test]
fn failures_have_names() {
    for (answer, words) in [
        ("404 Not Found", "/v2/a/manifests/latest: not found"),
        (
            "403 Forbidden",
            "wants to know who asks, and refuses what it was told (403)",
        ),
        (
            "401 Unauthorized",
            "wants to know who asks, and refuses what it was told (401)",
        ),
        ("418 Teapot", "answered 418"),
        ("302 Found", "redirects to nowhere"),
    ] {
        let server = Server::new(move |_, _| status(answer));
        pull(&server, &[], |_, _| {}).refused(words);
    }
    let server = Server::new(|_, _| status("500 Internal Server Error\r\nRetry-After: 0"));
    pull(&server, &[], |_, _| {}).refused("answered 500");
    assert_eq!(server.asked().len(), 4);
    let server = Server::new(|_, _| status("429 Too Many Requests\r\nRetry-After: 0"));
    pull(&server, &[], |_, _| {}).refused("too many requests, also after 4 tries");
    pull(&Server::at("127.0.0.1:1"), &[], |_, _| {})
        .refused("http://127.0.0.1:1/v2/a/manifests/latest: ");
}

#[test]
fn a_busy_registry_is_asked_again() {
    let (files, _) = files();
    let count = Mutex::new(0);
    let server = Server::new(move |path, _| {
        *count.lock().unwrap() += 1;
        if *count.lock().unwrap() % 2 == 1 {
            status("503 Busy\r\nRetry-After: 0")
        } else {
            files[path].clone()
        }
    });
    pull(&server, &[], |_, _| {}).holds();
}

#[test]
fn lies_are_found_out() {
    let (server, _) =
        but(|path, _, layer| is_layer(path, layer).then(|| ok(LAYER, b"something else")));
    pull(&server, &[], |_, _| {}).refused("has 14 bytes, but should have 2048");
    let (server, layer) =
        but(|path, _, layer| is_layer(path, layer).then(|| ok(LAYER, &vec![0; layer.len()])));
    pull(&server, &[], |_, _| {}).refused(&format!(
        "layer {} is not what its digest says",
        digest(&layer)
    ));
    // More than it should be, without a length.
    let endless = |layer: &[u8]| {
        (
            "200 OK\r\nX-Length: none".to_owned(),
            [layer, &vec![0; 1 << 20]].concat(),
        )
    };
    let (server, _) = but(move |path, _, layer| is_layer(path, layer).then(|| endless(layer)));
    pull(&server, &["--no-cache"], |_, _| {}).refused("has 2049 bytes, but should have 2048");
    // Less than it says.
    let short = |layer: &[u8]| {
        (
            format!("200 OK\r\nContent-Length: {}", layer.len()),
            layer[..100].to_vec(),
        )
    };
    let (server, _) = but(move |path, _, layer| is_layer(path, layer).then(|| short(layer)));
    for options in [&[][..], &["--no-cache"]] {
        pull(&server, options, |_, _| {}).refused("cannot read or unpack the content");
    }
    let (server, _) =
        but(|path, _, _| path.ends_with("latest").then(|| ok("text/html", b"<html>")));
    pull(&server, &[], |_, _| {}).refused("/manifests/sha256:");
    let (server, _) = but(|path, _, _| {
        path.ends_with("latest")
            .then(|| ok(MANIFEST, &vec![b' '; 5 << 20]))
    });
    pull(&server, &[], |_, _| {}).refused("the answer has more than 4194304 bytes");
}

#[test]
fn a_slow_registry_is_given_up() {
    let slow = |layer: &[u8]| {
        (
            format!("200 OK\r\nX-Slow: yes\r\nContent-Length: {}", layer.len()),
            layer.to_vec(),
        )
    };
    let (server, _) = but(move |path, _, layer| is_layer(path, layer).then(|| slow(layer)));
    let begin = Instant::now();
    pull(&server, &["--timeout", "1"], |_, _| {}).refused("imeout");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn credentials_go_to_the_registry_alone() {
    let other = Arc::new(but(|_, _, _| None).0);
    let target = format!("http://{}", other.address);
    let (server, _) = but(move |path, authorization, layer| {
        let challenge =
            "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"/token\",service=\"s\"";
        match (path, authorization) {
            (path, "Basic dTpw") if path.starts_with("/token?") => {
                Some(ok("application/json", br#"{"token": "t"}"#))
            }
            (_, "Bearer t") if is_layer(path, layer) => Some(status(&format!(
                "307 Elsewhere\r\nLocation: {target}{path}"
            ))),
            (_, "Bearer t") => None,
            _ => Some(status(challenge)),
        }
    });
    let address = server.address.clone();
    let known = |place: &Place, _: &mut Command| {
        let file = serde_json::json!({"auths": {address.clone(): {"auth": "dTpw"}}});
        fs::write(place.path("auth.json"), file.to_string()).unwrap();
    };
    pull(&server, &[], known).holds();
    assert_eq!(
        server.asked()[1],
        "/token?scope=repository%3Aa%3Apull&service=s Basic dTpw"
    );
    let elsewhere = other.asked();
    assert!(
        elsewhere.len() == 1 && !elsewhere[0].contains("Bearer"),
        "{elsewhere:?}"
    );
    pull(&server, &[], |_, _| {}).refused("the server of tokens gives none");
}

#[test]
fn who_a_redirect_leads_to_may_not_ask_for_credentials() {
    let thief = Arc::new(Server::new(|_, _| {
        status("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"/token\"")
    }));
    let target = format!("http://{}", thief.address);
    let (server, _) = but(move |path, _, layer| {
        is_layer(path, layer)
            .then(|| status(&format!("307 Elsewhere\r\nLocation: {target}/blobs/stolen")))
    });
    let address = server.address.clone();
    let known = |place: &Place, _: &mut Command| {
        let file = serde_json::json!({"auths": {address: {"auth": "dTpw"}}});
        fs::write(place.path("auth.json"), file.to_string()).unwrap();
    };
    let words = format!(
        "http://{}/blobs/stolen: the registry wants to know",
        thief.address
    );
    pull(&server, &[], known).refused(&words);
    assert_eq!(thief.asked(), ["/blobs/stolen"]);
}

#[test]
fn redirects_lead_to_nothing_less_safe() {
    for target in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "//127.0.0.1/",
        "gopher://x",
    ] {
        let (server, _) =
            but(move |_, _, _| Some(status(&format!("302 Found\r\nLocation: {target}"))));
        pull(&server, &[], |_, _| {}).refused(&format!("redirects to {target}, which is not safe"));
    }
    let (server, _) = but(|path, _, _| Some(status(&format!("302 Found\r\nLocation: {path}"))));
    pull(&server, &[], |_, _| {}).refused("more than 5 times");
}

#[test]
fn without_tls_only_where_that_is_asked_for() {
    let (server, _) = but(|_, _, _| None);
    let place = Place::new();
    let image = format!("docker://{}/a", server.address);
    let output = husk_rootfs()
        .arg("unpack")
        .arg(image)
        .arg(place.path("work/root"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("https://{}/v2/a", server.address)),
        "{}",
        stderr(&output)
    );
    assert!(!server.asked().iter().any(|path| path.starts_with("/v2")));
}

#[test]
fn a_mirror_is_asked_first() {
    let (mirror, _) = but(|_, _, _| None);
    let (server, _) = but(|_, _, _| None);
    pull(&server, &["--mirror", &mirror.address], |_, _| {}).holds();
    assert!(server.asked().is_empty() && !mirror.asked().is_empty());
    pull(&server, &["--mirror", "127.0.0.1:1"], |_, _| {}).holds();
    assert!(!server.asked().is_empty());
}

/// Debian's registry, which ends with this.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn debians_registry_serves_what_skopeo_copied_there() {
    let programs = ["/usr/bin/docker-registry", "/usr/bin/skopeo"].map(PathBuf::from);
    if let Some(missing) = programs.iter().find(|program| !program.exists()) {
        eprintln!(
            "not tested: {} is missing (packages docker-registry and skopeo)",
            missing.display()
        );
        return;
    }
    let place = Place::new();
    let layer = archive(&[Entry::file("hello", b"hello")]);
    Layout(&place.path("layout")).image(std::slice::from_ref(&layer));
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
        place.path("storage").display()
    );
    fs::write(place.path("config.yml"), config).unwrap();
    let mut serve = Command::new(&programs[0]);
    serve
        .arg("serve")
        .arg(place.path("config.yml"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let _registry = Real(serve.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "the registry does not answer");
        thread::sleep(Duration::from_millis(50));
    }
    let source = format!("oci:{}", place.path("layout").display());
    let copy = Command::new(&programs[1])
        .args([
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            &source,
            &format!("docker://{address}/a"),
        ])
        .output()
        .unwrap();
    assert!(copy.status.success(), "{}", stderr(&copy));
    pull(&Server::at(&address), &[], |_, _| {}).holds();
}
