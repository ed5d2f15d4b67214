//! Which crate may use which of ours: dependencies point one way, so that each part can be understood and tested alone.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Tree;
use crate::{command, paths};

/// Every crate of the workspace, and what it may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("hooks", &[]),
    ("devices", &[]),
    ("vmm", &["devices", "protocol"]),
    ("agent", &["hooks", "protocol"]),
    ("runtime", &["hooks", "protocol"]),
    ("rootfs-builder", &[]),
    ("tests", &["protocol"]),
    ("hostile-guest", &[]),
    ("xtask", &["protocol"]),
];

pub(super) fn check(_tree: &Tree) -> Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let text = command::output(cargo.current_dir(paths::workspace()))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            found.push(format!(
                "{name}: a crate that tools/xtask/src/house/edges.rs does not know"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            if ALLOWED.iter().any(|(known, _)| *known == used) && !allowed.contains(&used) {
                found.push(format!("{name}: must not use {used}"));
            }
        }
    }
    Ok(found)
}
