//! A source file that no `mod` names is not compiled, and so neither tested nor linted.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Tree;

pub(super) fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let Some((parents, module)) = declared_in(&file.path) else {
            continue;
        };
        let declared = tree
            .rust()
            .filter(|other| parents.contains(&other.path))
            .any(|other| other.text.lines().any(|line| declares(line, &module)));
        if !declared {
            found.push(format!(
                "{}: no `mod {module};` names it",
                file.path.display()
            ));
        }
    }
    Ok(found)
}

/// The files that may declare a module, and its name. Nothing for the roots of crates.
fn declared_in(path: &Path) -> Option<(Vec<PathBuf>, String)> {
    let dir = path.parent()?;
    let stem = path.file_stem()?.to_str()?;
    let under = dir.file_name()?.to_str()?;
    let root = ["main", "lib", "build"].contains(&stem) && (under == "src" || stem == "build");
    if root
        || ["tests", "benches", "examples", "bin", "fuzz_targets"].contains(&under) && stem != "mod"
    {
        return None;
    }
    let (home, module) = if stem == "mod" {
        (dir.parent()?, under)
    } else {
        (dir, stem)
    };
    let mut parents: Vec<PathBuf> = ["mod.rs", "lib.rs", "main.rs"]
        .iter()
        .map(|name| home.join(name))
        .collect();
    parents.push(home.with_extension("rs"));
    // A folder of tests: its modules are declared by the test programs beside it.
    if stem == "mod" {
        parents.extend(
            std::fs::read_dir(crate::paths::workspace().join(home))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| home.join(entry.file_name())),
        );
    }
    Some((parents, module.to_owned()))
}

fn declares(line: &str, module: &str) -> bool {
    let line = line.trim_start();
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or("", |(_, rest)| rest),
        Some(rest) => rest,
        None => line,
    };
    rest.trim_start()
        .strip_prefix("mod ")
        .and_then(|rest| rest.strip_suffix(';'))
        == Some(module)
}

#[cfg(test)]
mod tests {
    use super::declares;

    #[test]
    fn declarations_are_found_with_any_visibility() {
        for line in [
            "mod a;",
            "pub mod a;",
            "pub(crate) mod a;",
            "    pub(in crate::x) mod a;",
        ] {
            assert!(declares(line, "a"), "{line}");
        }
        for line in ["mod ab;", "mod a {", "// mod a;", "use a;"] {
            assert!(!declares(line, "a"), "{line}");
        }
    }
}
