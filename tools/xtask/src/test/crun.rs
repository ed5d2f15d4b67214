//! crun's own tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::source::Source;
use crate::command;
use crate::packages::{self, Tool};

const SOURCE: Source = Source {
    name: "crun",
    package: "crun",
    version: "1.8.1",
    sha256: "01b68269d94e5fe11106a9b14c2f144be03b16ec798951f4efa6aa16ba9da29a",
    tests: "tests",
};

/// What it takes beside the source.
const TOOLS: &[Tool] = &[Tool::new(
    "gcc",
    "gcc",
    "compiles the program of crun's tests",
)];

/// What crun's `configure` would find out for the tests' program.
const CONFIG: &str = "#define HAVE_ERROR_H 1\n#define PACKAGE_VERSION \"1\"\n";

/// Compiles the program that the tests put into their containers.
const COMPILE: &str = r#"cd "$1" && gcc -static -O1 -I . -o init init.c"#;

/// Puts the tests into `dir`.
pub(super) fn install(dir: &Path) -> Result<()> {
    let home = SOURCE.unpacked(compile)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for entry in fs::read_dir(&home)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?;
        let wanted = name == "init" || path.extension().is_some_and(|kind| kind == "py");
        if wanted {
            fs::copy(&path, dir.join(name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn compile(work: &Path) -> Result<()> {
    packages::ensure_installed(TOOLS)?;
    fs::write(work.join("config.h"), CONFIG)?;
    let mut shell = Command::new("sh");
    shell.args(["-ec", COMPILE, "sh"]).arg(work);
    command::output(&mut shell).map(drop)
}
