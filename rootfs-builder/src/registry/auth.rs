//! Credentials, from the files where engines keep them, and the challenges of registries.

use std::env;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Docker's name for its own registry in files of credentials.
const DOCKER: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");

/// Files of credentials, in the order in which they are looked at.
fn files() -> Vec<PathBuf> {
    let below =
        |variable: &str, path: &str| env::var_os(variable).map(|dir| PathBuf::from(dir).join(path));
    let files = [
        env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("HOME", ".config/containers/auth.json"),
        below("DOCKER_CONFIG", "config.json"),
        below("HOME", ".docker/config.json"),
    ];
    files.into_iter().flatten().collect()
}

/// What the files say of a registry: `USER:PASSWORD` in base 64, as it is sent.
pub(super) fn credentials(host: &str) -> Option<String> {
    let texts = files()
        .into_iter()
        .filter_map(|file| std::fs::read(file).ok());
    let mut parsed = texts.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    parsed.find_map(|value| of_host(&value, host))
}

fn of_host(value: &Value, host: &str) -> Option<String> {
    let all = value.get("auths")?;
    let names = [
        host.to_owned(),
        format!("https://{host}"),
        format!("https://{host}/v1/"),
    ];
    let docker = (host == DOCKER.0).then(|| DOCKER.1.to_owned());
    let entry = names.iter().chain(&docker).find_map(|name| all.get(name))?;
    let text = entry.get("auth")?.as_str()?;
    // What is none would be sent as it is.
    let decoded = STANDARD.decode(text).ok()?;
    decoded.contains(&b':').then(|| text.to_owned())
}

/// How a registry wants to know who asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token of this server, for this service and scope.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Understands the header `WWW-Authenticate`.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = rest;
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, later) = after.split_once('"')?;
        match key.trim_start_matches([',', ' ']) {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            "scope" => scope = Some(value.to_owned()),
            _ => {}
        }
        rest = later;
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
        scope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let header = "Bearer realm=\"https://a.example/token\",service=\"r, x\", scope=\"repository:a:pull,push\"";
        let expected = Challenge::Bearer {
            realm: "https://a.example/token".into(),
            service: Some("r, x".into()),
            scope: Some("repository:a:pull,push".into()),
        };
        assert_eq!(challenge(header), Some(expected));
        assert_eq!(challenge("basic realm=\"x\""), Some(Challenge::Basic));
        for header in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer realm=\"x",
            "Bearer service=\"x\"",
        ] {
            assert_eq!(challenge(header), None, "{header:?}");
        }
    }

    #[test]
    fn credentials_are_those_of_the_host() {
        let files = serde_json::json!({"auths": {
            "r.example": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "ZDpw"}, "bad.example": {"auth": "!"},
        }});
        assert_eq!(of_host(&files, "r.example").as_deref(), Some("dTpw"));
        assert_eq!(of_host(&files, "docker.io").as_deref(), Some("ZDpw"));
        assert_eq!(of_host(&files, "bad.example"), None);
        assert_eq!(of_host(&files, "other.example"), None);
    }
}
