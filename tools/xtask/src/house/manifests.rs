//! Every crate takes the workspace's lints, and no product crate has features: one configuration is what is tested.

use anyhow::Result;

use super::Tree;

pub(super) fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in &tree.files {
        let manifest = file
            .path
            .file_name()
            .is_some_and(|name| name == "Cargo.toml");
        if !manifest || !file.text.contains("[package]") {
            continue;
        }
        let path = file.path.display();
        if !file.text.contains("[lints]\nworkspace = true") {
            found.push(format!("{path}: add [lints] workspace = true"));
        }
        if file.text.lines().any(|line| line.trim() == "[features]") {
            found.push(format!(
                "{path}: cargo features multiply what has to be tested"
            ));
        }
    }
    Ok(found)
}
