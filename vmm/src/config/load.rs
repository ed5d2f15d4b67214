//! Reads the config file. What is not exactly a [`SandboxConfig`] is refused, with the JSON path of the value at fault.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use protocol::sandbox::{MAX_CONFIG, SandboxConfig, ShareConfig};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error, Value};

use super::ConfigError;

/// Reads the config in `path`.
pub(crate) fn load(path: &Path) -> Result<SandboxConfig, ConfigError> {
    load_json(path)
}

/// Reads the list of shares in `path`.
pub(crate) fn load_shares(path: &Path) -> Result<Vec<ShareConfig>, ConfigError> {
    load_json(path)
}

fn load_json<T: Serialize + DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = read(path)?;
    parse(&bytes).map_err(|(key, source)| ConfigError::Json {
        path: path.to_owned(),
        key,
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_CONFIG + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit: MAX_CONFIG,
        });
    }
    Ok(bytes)
}

fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, (String, Error)> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let config = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| (error.path().to_string(), error.into_inner()))?;
    deserializer
        .end()
        .map_err(|error| ("after the end".to_owned(), error))?;
    match list_for_object(bytes, &config) {
        Ok(None) => Ok(config),
        Ok(Some(key)) => Err((key, Error::custom("invalid type: list, expected an object"))),
        Err(error) => Err((String::new(), error)),
    }
}

/// Where the text has a list in place of an object, which serde takes for the object's values in order.
fn list_for_object(text: &[u8], meant: &impl Serialize) -> Result<Option<String>, Error> {
    let given: Value = serde_json::from_slice(text)?;
    Ok(differing_shape(&given, &serde_json::to_value(meant)?, ""))
}

fn differing_shape(given: &Value, meant: &Value, key: &str) -> Option<String> {
    match (given, meant) {
        (Value::Array(_), Value::Object(_)) => Some(key.to_owned()),
        (Value::Array(given), Value::Array(meant)) => {
            let mut pairs = given.iter().zip(meant).enumerate();
            pairs.find_map(|(at, (given, meant))| {
                differing_shape(given, meant, &format!("{key}[{at}]"))
            })
        }
        (Value::Object(given), Value::Object(meant)) => given.iter().find_map(|(name, given)| {
            let dot = if key.is_empty() { "" } else { "." };
            differing_shape(given, meant.get(name)?, &format!("{key}{dot}{name}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let (key, error) = parse::<SandboxConfig>(text.as_bytes()).unwrap_err();
        format!("{key}: {error}")
    }

    #[test]
    fn the_smallest_config_has_defaults() {
        let config: SandboxConfig = parse(br#"{"boot": {"kernel": "/k"}}"#).unwrap();
        assert_eq!((config.vcpus, config.memory.size_mib), (1, 256));
        assert!(config.devices.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("{}", "missing field `boot`"),
            (r#"{"boot": {}}"#, "boot: missing field `kernel`"),
            (r#"{"boot": {"kernel": 7}}"#, "boot.kernel: invalid type"),
            (r#"{"vcpus": -1}"#, "vcpus: invalid value"),
            (r#"{"vcpus": 18446744073709551616}"#, "vcpus: "),
            (r#"{"vcpus": 1, "vcpus": 2}"#, "duplicate field `vcpus`"),
            (r#"{"vpcus": 1}"#, "unknown field `vpcus`"),
            (r#"{"memory": {"size": 1}}"#, "unknown field `size`"),
            (
                r#"{"devices": [{"type": "rng"}, {"type": "gpu"}]}"#,
                "devices[1]",
            ),
            (
                r#"{"devices": [{"type": "rng", "x": 1}]}"#,
                "unknown field `x`",
            ),
            (
                r#"{"devices": [{"type": "blk", "path": "/a", "path": "/b"}]}"#,
                "duplicate field `path`",
            ),
            (r#"{"boot": {"kernel": "/k"}} {}"#, "trailing characters"),
            (r#"{"boot": ["/k"]}"#, "boot: invalid type: list"),
            (
                r#"{"boot": {"kernel": "/k"}, "memory": []}"#,
                "memory: invalid type: list",
            ),
            (
                r#"{"boot": {"kernel": "/k"}, "devices": [{"type": "console", "output": []}]}"#,
                "devices[0]",
            ),
            ("", "EOF"),
        ] {
            let error = refused(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn bad_utf8_and_depth_are_refused() {
        assert!(parse::<SandboxConfig>(b"{\"boot\": {\"kernel\": \"\xff\"}}").is_err());
        let deep = "[".repeat(100_000);
        assert!(parse::<SandboxConfig>(deep.as_bytes()).is_err());
        let nested = r#"{"type": "rng", "x": "#.repeat(1_000);
        let error = refused(&format!(r#"{{"devices": [{nested}"#));
        assert!(error.contains("recursion limit"), "{error}");
    }
}
