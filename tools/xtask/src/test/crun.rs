//! crun's own tests, which are Debian's source package: fetched once, of a pinned version, and kept in the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{self, Tool};
use crate::progress::Step;
use crate::{command, paths};

/// Version, and what its source has as SHA-256.
const VERSION: &str = "1.8.1";
const SHA256: &str = "01b68269d94e5fe11106a9b14c2f144be03b16ec798951f4efa6aa16ba9da29a";

/// What it takes.
const TOOLS: &[Tool] = &[
    Tool::new("/usr/lib/apt/apt-helper", "apt", "fetches crun's tests"),
    Tool::new("gcc", "gcc", "compiles the program of crun's tests"),
    Tool::new("xz", "xz-utils", "unpacks crun's tests"),
];

/// What crun's `configure` would find out for the tests' program.
const CONFIG: &str = "#define HAVE_ERROR_H 1\n#define PACKAGE_VERSION \"1\"\n";

/// Unpacks the tests, and compiles the program that they put into their containers.
const MAKE: &str = r#"
    cd "$1"
    tar -x -f source.tar.xz --strip-components=2 "crun-$2/tests"
    gcc -static -O1 -I . -o init init.c
    rm source.tar.xz
"#;

/// Puts the tests into `dir`.
pub(super) fn install(dir: &Path) -> Result<()> {
    let cache = paths::cache("suites")?;
    let home = cache.join(format!("crun-{VERSION}"));
    if !home.exists() {
        packages::ensure_installed(TOOLS)?;
        let work = tempfile::Builder::new().prefix("new-").tempdir_in(&cache)?;
        make(work.path())?;
        // One that another run has made meanwhile is as good.
        fs::rename(work.path(), &home).or_else(|error| match home.exists() {
            true => Ok(()),
            false => Err(error),
        })?;
    }
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

fn make(work: &Path) -> Result<()> {
    let step = Step::start(format!("fetching crun's tests {VERSION}"));
    let path = format!("pool/main/c/crun/crun_{VERSION}.orig.tar.xz");
    let mut fetch = Command::new("/usr/lib/apt/apt-helper");
    fetch
        .arg("download-file")
        .arg(format!("{}{path}", mirror()?))
        .arg(work.join("source.tar.xz"))
        .arg(format!("SHA256:{SHA256}"));
    command::output(&mut fetch)?;
    fs::write(work.join("config.h"), CONFIG)?;
    let mut shell = Command::new("sh");
    shell.args(["-ec", MAKE, "sh"]).arg(work).arg(VERSION);
    command::output(&mut shell)?;
    step.done("");
    Ok(())
}

/// The Debian mirror of this machine, with a slash at its end.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)"]);
    targets.args(["Created-By: Packages", "Label: Debian", "Component: main"]);
    let found = command::output(&mut targets)?;
    let mirror = found.lines().next().unwrap_or_default();
    ensure!(mirror.ends_with('/'), "apt has no Debian mirror");
    Ok(mirror.to_owned())
}
