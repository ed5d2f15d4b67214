//! Which cgroup a spec names, by runc's rules.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::CgroupError;
use super::group::own_path;
use crate::state::ContainerId;

/// Prefix of the scope that a container gets from systemd when its spec names none.
const SCOPE_PREFIX: &str = "husk";

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Driver {
    /// This program, in the file system.
    Cgroupfs,
    /// systemd, as scopes of its slices (`--systemd-cgroup`).
    Systemd,
}

/// The name of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Who makes it.
    pub(crate) driver: Driver,
    /// An absolute path below the hierarchy's mount point; for systemd `slice:prefix:name`.
    pub(crate) path: String,
    /// The spec names it: it is not the default.
    pub(crate) named: bool,
}

impl Place {
    /// What `linux.cgroupsPath` asks for; the default if it is absent.
    pub(crate) fn of(spec: &Spec, id: &ContainerId, driver: Driver) -> Result<Self, CgroupError> {
        let linux = spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let text = path.map(|path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| CgroupError::NotText { path: path.into() })
        });
        let text = text.transpose()?;
        let path = match driver {
            Driver::Systemd => systemd_path(text.as_deref(), id)?,
            Driver::Cgroupfs => {
                let name = text.as_deref().unwrap_or(id.as_str());
                below(Path::new(name), own_path)?
            }
        };
        Ok(Self {
            driver,
            path,
            named: text.is_some(),
        })
    }
}

fn systemd_path(path: Option<&str>, id: &ContainerId) -> Result<String, CgroupError> {
    let Some(path) = path else {
        return Ok(format!(":{SCOPE_PREFIX}:{id}"));
    };
    let parts = path.split(':').count();
    if parts == 3 && !path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(CgroupError::NotSystemd { path: path.into() })
    }
}

/// An absolute path without `..`. A relative one is a neighbour of the caller's own cgroup, which has processes and so
/// cannot have children.
fn below(
    path: &Path,
    own: impl FnOnce() -> Result<PathBuf, CgroupError>,
) -> Result<String, CgroupError> {
    let mut clean = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        own()?.parent().unwrap_or(Path::new("/")).to_owned()
    };
    let root = clean.clone();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            // Never further up than where it starts.
            Component::ParentDir if clean != root => {
                clean.pop();
            }
            _ => {}
        }
    }
    match clean.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CgroupError::NotText { path: clean }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn place(path: &Value, driver: Driver) -> Result<Place, CgroupError> {
        let spec = json!({"ociVersion": "1.0.2", "linux": {"cgroupsPath": path}});
        let id = ContainerId::parse("c1").unwrap();
        Place::of(&serde_json::from_value(spec).unwrap(), &id, driver)
    }

    #[test]
    fn paths_are_cleaned_and_relative_ones_are_neighbours() {
        let own = || Ok(PathBuf::from("/user/session"));
        for (path, expected) in [
            ("/docker/abc", "/docker/abc"),
            ("/a//b/./c/", "/a/b/c"),
            ("/../../etc", "/etc"),
            ("abc", "/user/abc"),
            ("../../abc", "/user/abc"),
            ("a/../b", "/user/b"),
        ] {
            assert_eq!(below(Path::new(path), own).unwrap(), expected, "{path}");
        }
        let root = || Ok(PathBuf::from("/"));
        assert_eq!(below(Path::new("c1"), root).unwrap(), "/c1");
    }

    #[test]
    fn systemd_wants_three_parts() {
        let path = |text: &str| place(&json!(text), Driver::Systemd);
        assert_eq!(path("a.slice:p:n").unwrap().path, "a.slice:p:n");
        assert_eq!(path(":p:n").unwrap().path, ":p:n");
        assert_eq!(
            place(&json!(null), Driver::Systemd).unwrap().path,
            ":husk:c1"
        );
        for wrong in ["/a/b", "a.slice", "a:b", "a:b:c:d", "/a:b:c"] {
            let error = path(wrong).unwrap_err().to_string();
            assert!(error.contains("slice:prefix:name"), "{error}");
        }
    }

    #[test]
    fn the_default_is_known_as_such() {
        assert!(!place(&json!(null), Driver::Cgroupfs).unwrap().named);
        assert!(!place(&json!(""), Driver::Cgroupfs).unwrap().named);
        assert!(place(&json!("/x"), Driver::Cgroupfs).unwrap().named);
    }
}
