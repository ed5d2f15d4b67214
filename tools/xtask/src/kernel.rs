//! The guest kernel, built once by `kernel/build.sh` and cached under what it is made from: the fragments, the list of
//! required options, the script and the version of Debian's source.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::command;
use crate::packages::{self, Tool};
use crate::paths;
use crate::progress::Step;

/// Build the guest kernel, or find it in the cache, and print where it is
///
/// The kernel is made from kernel/config/*.config over tinyconfig of Debian's linux-source-6.12, and cached under
/// $XDG_CACHE_HOME/husk/kernel. A new one takes about 12 minutes on two processors.
#[derive(Args)]
pub(crate) struct Kernel {
    /// Keep the tree it is built in (3 GB), so that the next change of a fragment compiles only what it touches
    #[arg(long)]
    keep_tree: bool,
}

const SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";
const SOURCE_PACKAGE: &str = "linux-source-6.12";

const TOOLS: &[Tool] = &[
    Tool::new(SOURCE, SOURCE_PACKAGE, "the source of the guest kernel"),
    Tool::new("gcc", "gcc", "compiles the guest kernel"),
    Tool::new("make", "make", "builds the guest kernel"),
    Tool::new("bc", "bc", "builds the guest kernel"),
    Tool::new("bison", "bison", "builds the guest kernel's configuration"),
    Tool::new("flex", "flex", "builds the guest kernel's configuration"),
    Tool::new("xz", "xz-utils", "unpacks the guest kernel's source"),
    Tool::new(
        "/usr/include/gelf.h",
        "libelf-dev",
        "builds the guest kernel's objtool",
    ),
    Tool::new(
        "/usr/include/stdio.h",
        "libc6-dev",
        "builds the guest kernel's own tools",
    ),
];

/// Lines that `make` prints in a whole build, measured; only the progress depends on it.
const STEPS: usize = 2300;

/// Where there is no terminal, a line each time this many steps are done.
const STEPS_PER_LINE: usize = 250;

/// Runs `cargo xtask kernel`.
#[expect(
    clippy::print_stdout,
    reason = "the path is the result of this command"
)]
pub(crate) fn run(task: &Kernel) -> Result<i32> {
    println!("{}", vmlinux(task.keep_tree)?.display());
    Ok(0)
}

/// The path of the built kernel, which is built now if it has to be. Its configuration, symbols and log are beside it.
pub(crate) fn vmlinux(keep_tree: bool) -> Result<PathBuf> {
    packages::ensure_installed(TOOLS)?;
    let sources = paths::workspace().join("kernel");
    let cache = paths::cache("kernel")?;
    let version = ["-W", "-f", "${Version}", SOURCE_PACKAGE];
    let version = command::output(Command::new("dpkg-query").args(version))?;
    let home = cache.join(key(&version, &sources)?);
    let vmlinux = home.join("vmlinux");
    if vmlinux.exists() {
        return Ok(vmlinux);
    }
    let _lock = lock(&cache)?;
    // Another process may have built it while this one waited.
    if !vmlinux.exists() {
        build(&sources, &cache, &home)?;
        if !keep_tree {
            remove(&cache.join("tree"))?;
        }
    }
    Ok(vmlinux)
}

/// A name for everything that decides what the kernel becomes.
fn key(version: &str, sources: &Path) -> Result<String> {
    let mut files = vec![sources.join("build.sh"), sources.join("required.txt")];
    let config = sources.join("config");
    let entries =
        fs::read_dir(&config).with_context(|| format!("cannot list {}", config.display()))?;
    for entry in entries {
        files.push(entry?.path());
    }
    files.sort();
    let mut hash = Sha256::new();
    hash.update(version);
    for file in files {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    let digest = hash.finalize();
    Ok(digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Holds the only right to build below `cache`, until the file is closed.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        let step = Step::start("waiting for another build of the guest kernel");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        step.done("");
    }
    Ok(file)
}

/// Builds into a directory beside `home` and renames it: `home` has everything or does not exist.
fn build(sources: &Path, cache: &Path, home: &Path) -> Result<()> {
    let part = cache.join("part");
    remove(&part)?;
    remove(home)?;
    fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
    let start = Instant::now();
    let step = Step::start("building the guest kernel");
    let mut script = Command::new(sources.join("build.sh"));
    script
        .arg("--work")
        .arg(cache.join("tree"))
        .arg("--output")
        .arg(&part);
    let mut progress = Progress::default();
    command::logged_each(&mut script, &part.join("build.log"), |line| {
        progress.line(line, &step);
    })
    .context("cannot build the guest kernel")?;
    let bytes = fs::metadata(part.join("vmlinux"))?.len();
    let report = format!(
        "vmlinux: {bytes} bytes, {:.0} s\n",
        start.elapsed().as_secs_f64()
    );
    fs::write(part.join("report.txt"), &report)?;
    fs::rename(&part, home).with_context(|| format!("cannot create {}", home.display()))?;
    step.done(report.trim());
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Counts what `make` has done.
#[derive(Default)]
struct Progress {
    steps: usize,
}

impl Progress {
    fn line(&mut self, line: &str, step: &Step) {
        // `  CC      mm/slub.o`: two spaces and a word in capitals.
        if !line.starts_with("  ")
            || !line
                .trim_start()
                .starts_with(|c: char| c.is_ascii_uppercase())
        {
            return;
        }
        self.steps += 1;
        let steps = self.steps;
        step.doing(&format!("{steps} of about {STEPS}: {}", line.trim()));
        if !io::stderr().is_terminal() && steps.is_multiple_of(STEPS_PER_LINE) {
            eprintln!("  {steps} of about {STEPS} steps");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        for name in ["build.sh", "required.txt", "config/a.config"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn the_same_sources_have_the_same_key() {
        let (one, two) = (sources(), sources());
        assert_eq!(key("1", one.path()).unwrap(), key("1", two.path()).unwrap());
    }

    #[test]
    fn everything_that_decides_the_kernel_changes_the_key() {
        let dir = sources();
        let mut keys = vec![key("1", dir.path()).unwrap(), key("2", dir.path()).unwrap()];
        for name in [
            "build.sh",
            "required.txt",
            "config/a.config",
            "config/b.config",
        ] {
            fs::write(dir.path().join(name), "changed").unwrap();
            keys.push(key("1", dir.path()).unwrap());
        }
        fs::rename(
            dir.path().join("config/b.config"),
            dir.path().join("config/c.config"),
        )
        .unwrap();
        keys.push(key("1", dir.path()).unwrap());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 7);
    }
}
