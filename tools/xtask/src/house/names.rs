//! Names that gather moss: what is in such a module has no concept of its own.

use anyhow::Result;

use super::Tree;

const BANNED: [&str; 7] = [
    "utils", "util", "common", "base", "helpers", "manager", "inner",
];

pub(super) fn check(tree: &Tree) -> Result<Vec<String>> {
    Ok(tree
        .rust()
        .filter(|file| {
            file.path
                .with_extension("")
                .iter()
                .any(|part| BANNED.iter().any(|banned| part == *banned))
        })
        .map(|file| format!("{}: call it after what it does", file.path.display()))
        .collect())
}
