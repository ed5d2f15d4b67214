//! Where things are: the workspace, the caches outside of it and the install prefix. Every command asks here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the workspace, which is two directories above this crate.
pub(crate) fn workspace() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir
        .parent()
        .and_then(Path::parent)
        .unwrap_or(crate_dir)
}

/// Cargo's build directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().join("target"),
        |dir| workspace().join(PathBuf::from(dir)),
    )
}

/// What `cargo xtask build` installs, laid out as it would be below /usr/local.
pub(crate) fn prefix() -> PathBuf {
    target().join("husk")
}

/// The directory for what is dear to make and keyed by what it is made from; made if it does not exist.
pub(crate) fn cache(kind: &str) -> Result<PathBuf> {
    let root = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => bail!("no place for caches: set XDG_CACHE_HOME or HOME"),
    };
    let dir = root.join("husk").join(kind);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}
