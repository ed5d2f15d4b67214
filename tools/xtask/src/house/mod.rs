//! The rules of this house that no other tool checks. Each module is one rule.

mod edges;
mod layers;
mod lockfile;
mod manifests;
mod names;
mod orphans;
mod size;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, paths};

/// A rule: its name, and the function that finds where it is broken.
type Rule = (&'static str, fn(&Tree) -> Result<Vec<String>>);

const RULES: &[Rule] = &[
    ("no file too long", size::check),
    ("no banned module name", names::check),
    ("no orphaned module", orphans::check),
    ("crate edges", edges::check),
    ("who may touch what", layers::check),
    ("workspace lints everywhere", manifests::check),
    ("dependencies", lockfile::check),
];

/// The files of the workspace, tracked or not yet.
struct Tree {
    files: Vec<Source>,
}

/// One text file.
struct Source {
    /// Below the workspace.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    /// The lines before the unit tests, numbered, without those that are comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }
}

/// Checks every rule, and reports each with its result.
pub(crate) fn run(report: &mut dyn FnMut(&str, Result<()>)) {
    match Tree::read() {
        Ok(tree) => {
            for (name, check) in RULES {
                report(&format!("house rule: {name}"), judge(check(&tree)));
            }
        }
        Err(error) => report("house rules", Err(error)),
    }
}

fn judge(found: Result<Vec<String>>) -> Result<()> {
    let found = found?;
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

impl Tree {
    fn read() -> Result<Self> {
        let mut git = Command::new("git");
        git.args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ]);
        let list = command::output(git.current_dir(paths::workspace()))?;
        let mut files = Vec::new();
        for path in list.split('\0').map(PathBuf::from) {
            let text_file = path
                .extension()
                .is_some_and(|extension| ["rs", "toml", "md"].iter().any(|e| extension == *e));
            let full = paths::workspace().join(&path);
            if text_file && full.exists() {
                let text = fs::read_to_string(&full)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                files.push(Source { path, text });
            }
        }
        Ok(Self { files })
    }

    fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.is_rust())
    }
}
