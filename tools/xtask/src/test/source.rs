//! Other projects' tests, which are in Debian's source packages: fetched once, of a pinned version, and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::packages::{self, Tool};
use crate::progress::Step;
use crate::{command, paths};

/// What it takes to have a source package.
const TOOLS: &[Tool] = &[
    Tool::new("/usr/lib/apt/apt-helper", "apt", "fetches test suites"),
    Tool::new("xz", "xz-utils", "unpacks test suites"),
];

/// Unpacks one directory.
const UNPACK: &str =
    r#"cd "$1" && tar -x -f source.tar.xz --strip-components=2 "$2" && rm source.tar.xz"#;

/// A source package, and what of it is wanted.
pub(super) struct Source {
    /// Of whom these tests are.
    pub(super) name: &'static str,
    /// Debian's name of the source package.
    pub(super) package: &'static str,
    /// Debian's version without its own part.
    pub(super) version: &'static str,
    /// Of the package's upstream archive.
    pub(super) sha256: &'static str,
    /// The directory in the archive, below the one that names the version.
    pub(super) tests: &'static str,
}

impl Source {
    /// Where the tests are, without the first part of [`Self::tests`]. `finish` has what must be done to them before they are kept.
    pub(super) fn unpacked(&self, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let cache = paths::cache("suites")?;
        let home = cache.join(format!("{}-{}", self.package, self.version));
        if home.exists() {
            return Ok(home);
        }
        packages::ensure_installed(TOOLS)?;
        let step = Step::start(format!("fetching {}'s tests {}", self.name, self.version));
        let work = tempfile::Builder::new().prefix("new-").tempdir_in(&cache)?;
        self.fetch(work.path())?;
        finish(work.path())?;
        // One that another run has made meanwhile is as good.
        fs::rename(work.path(), &home).or_else(|error| match home.exists() {
            true => Ok(()),
            false => Err(error),
        })?;
        step.done("");
        Ok(home)
    }

    fn fetch(&self, work: &Path) -> Result<()> {
        let Self {
            package, version, ..
        } = self;
        // Packages whose names begin with `lib` are sorted by the letter after it, too.
        let letters = if package.starts_with("lib") { 4 } else { 1 };
        let path = format!(
            "pool/main/{}/{package}/{package}_{version}.orig.tar.xz",
            &package[..letters]
        );
        let mut fetch = Command::new("/usr/lib/apt/apt-helper");
        fetch
            .arg("download-file")
            .arg(format!("{}{path}", mirror()?))
            .arg(work.join("source.tar.xz"))
            .arg(format!("SHA256:{}", self.sha256));
        command::output(&mut fetch)?;
        let mut shell = Command::new("sh");
        shell.args(["-ec", UNPACK, "sh"]).arg(work);
        shell.arg(format!("{package}-{version}/{}", self.tests));
        command::output(&mut shell).map(drop)
    }
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
