//! `config.json` to a checked [`Bundle`]. The file is the caller's, and not believed.

mod check;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, Process, Spec};
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::unknown_names;

use check::check_linux;
pub(crate) use check::check_process;

/// Largest `config.json`, in bytes. With a long seccomp profile it has about 100 KiB.
const MAX_CONFIG: u64 = 2 << 20;

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than [`MAX_CONFIG`].
    #[error("{path} is larger than {MAX_CONFIG} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A field has the wrong type, a duplicate, or the file is no JSON.
    #[error("{path}: field {field:?} is not usable")]
    Field {
        /// The file.
        path: PathBuf,
        /// Path of the field, `.` for the whole file.
        field: String,
        /// What is wrong, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A field that husk needs is missing or empty.
    #[error("{path}: field {field:?} is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
    },
    /// A field contradicts what husk can do or what the specification says.
    #[error("{path}: field {field:?} is refused: {problem}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The root file system is not a directory.
    #[error("root file system {path} is not usable")]
    Rootfs {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A bundle whose fields have the right types, whose root file system exists, and which has a program to run.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The directory, absolute.
    pub(crate) dir: PathBuf,
    /// The root file system's directory, absolute.
    pub(crate) rootfs: PathBuf,
    /// `config.json`.
    pub(crate) spec: Spec,
    /// What was left out of it because it is not known, a line each.
    pub(crate) unknown: Vec<String>,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`, by default the current directory.
    pub(crate) fn load(dir: Option<&Path>) -> Result<Self, BundleError> {
        let given = dir.unwrap_or(Path::new("."));
        let read = |source| BundleError::Read {
            path: given.to_owned(),
            source,
        };
        let dir = std::path::absolute(given).map_err(read)?;
        let path = dir.join("config.json");
        let (spec, unknown) = read_spec(&path)?;
        let missing = |field| BundleError::Missing {
            path: path.clone(),
            field,
        };
        let refused = |(field, problem)| BundleError::Refused {
            path: path.clone(),
            field,
            problem,
        };
        if !spec.version().starts_with("1.") {
            return Err(refused(("ociVersion", "not a version 1".to_owned())));
        }
        let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
        check_process(process).map_err(refused)?;
        check_linux(&spec).map_err(refused)?;
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
        if root.path().as_os_str().is_empty() {
            return Err(missing("root.path"));
        }
        let rootfs = dir.join(root.path());
        check_rootfs(&rootfs)?;
        Ok(Self {
            dir,
            rootfs,
            spec,
            unknown,
        })
    }
}

/// `linux.namespaces`; none where the spec has no such list.
pub(crate) fn namespaces(spec: &Spec) -> &[LinuxNamespace] {
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_deref());
    list.unwrap_or_default()
}

/// Reads the OCI process object in a file of its own.
pub(crate) fn load_process(path: &Path) -> Result<Process, BundleError> {
    let process: Process = read_json(path)?;
    let refused = |(field, problem)| BundleError::Refused {
        path: path.to_owned(),
        field,
        problem,
    };
    check_process(&process).map_err(refused)?;
    Ok(process)
}

fn check_rootfs(path: &Path) -> Result<(), BundleError> {
    let rootfs = |source| BundleError::Rootfs {
        path: path.to_owned(),
        source,
    };
    let metadata = path.metadata().map_err(rootfs)?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(rootfs(io::ErrorKind::NotADirectory.into()))
}

fn read_spec(path: &Path) -> Result<(Spec, Vec<String>), BundleError> {
    match read_json(path) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(BundleError::Field { field, .. }) if unknown_names::may_be_in(&field) => {
            let mut spec: Value = read_json(path)?;
            let unknown = unknown_names::leave_out(&mut spec);
            Ok((parse(path, spec)?, unknown))
        }
        Err(error) => Err(error),
    }
}

/// A value of the right type, or the field that has not the right one.
fn parse<'de, T: DeserializeOwned>(
    path: &Path,
    json: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, BundleError> {
    serde_path_to_error::deserialize(json).map_err(|error| BundleError::Field {
        path: path.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let read = |source| BundleError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(read)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(BundleError::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(&text);
    let value = parse(path, &mut json)?;
    let trailing = |source| BundleError::Field {
        path: path.to_owned(),
        field: ".".into(),
        source,
    };
    json.end().map_err(trailing)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": [], "oomScoreAdj": 0},
            "root": {"path": "rootfs"},
            "linux": {},
        })
    }

    fn load(config: &[u8]) -> Result<Bundle, BundleError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Bundle::load(Some(dir.path()))
    }

    fn refusal(config: &[u8]) -> String {
        let error = load(config).expect_err("the config is bad");
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    #[test]
    fn a_good_bundle_is_loaded() {
        let bundle = load(spec().to_string().as_bytes()).unwrap();
        assert!(bundle.rootfs.ends_with("rootfs"));
    }

    #[test]
    fn the_error_names_the_field() {
        for (pointer, value, expected) in [
            ("/process/args", json!("sh"), "process.args"),
            ("/process/args", json!([]), "process.args"),
            ("/process/cwd", json!("tmp"), "process.cwd"),
            ("/process/user/uid", json!(-1), "process.user.uid"),
            (
                "/process/user/uid",
                json!(18_446_744_073_709_551_615_u64),
                "process.user.uid",
            ),
            ("/process/args/0", json!("a\0b"), "process"),
            ("/root/path", json!(""), "root.path"),
            ("/root/path", json!("missing"), "missing"),
            ("/root", Value::Null, "root"),
            ("/process", Value::Null, "process"),
            ("/ociVersion", json!("2.0.0"), "ociVersion"),
            ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
            ("/process/env", json!(["X"]), "variable: \"X\""),
            (
                "/linux",
                json!({"rootfsPropagation": "up"}),
                "rootfsPropagation=up",
            ),
            (
                "/linux",
                json!({"namespaces": [{"type": "pid"}, {"type": "pid"}]}),
                "duplicated ns pid",
            ),
        ] {
            let mut config = spec();
            *config.pointer_mut(pointer).unwrap() = value;
            let text = refusal(config.to_string().as_bytes());
            assert!(text.contains(expected), "{pointer}: {text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let whole = spec().to_string();
        let deep = "[".repeat(10_000);
        let trailing = format!("{whole} x");
        let duplicate = whole.replacen('{', "{\"ociVersion\":\"1.0.0\",", 1);
        for text in [
            "",
            "{",
            &whole[..whole.len() - 3],
            &deep,
            &trailing,
            &duplicate,
            "null",
            "NaN",
        ] {
            assert!(load(text.as_bytes()).is_err(), "{text:.40}");
        }
        assert!(load(b"{\"ociVersion\": \"\xff\"}").is_err());
        let huge = vec![b' '; usize::try_from(MAX_CONFIG).unwrap() + 1];
        assert!(matches!(load(&huge), Err(BundleError::TooLarge { .. })));
    }

    #[test]
    fn a_missing_config_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Bundle::load(Some(dir.path())).unwrap_err();
        assert!(error.to_string().contains("config.json"));
    }
}
