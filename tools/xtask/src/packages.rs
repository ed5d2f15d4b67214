//! The programs of the distribution that the commands need: installed when root, named otherwise.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::command;
use crate::progress::Step;

/// A file that a command needs, the package that has it, and what for.
pub(crate) struct Tool {
    /// A program to be found on PATH, or an absolute path.
    pub(crate) file: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
}

impl Tool {
    /// A tool that is there when `file` is.
    pub(crate) const fn new(file: &'static str, package: &'static str, why: &'static str) -> Self {
        Self { file, package, why }
    }

    pub(crate) fn is_missing(&self) -> bool {
        find(self.file).is_none()
    }
}

/// Where a program is, on PATH and in the directories that only root has on its PATH.
pub(crate) fn find(file: &str) -> Option<PathBuf> {
    if Path::new(file).is_absolute() {
        return Path::new(file).exists().then(|| file.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(file))
        .find(|candidate| candidate.is_file())
}

/// Where a program is, cargo's own directory included.
pub(crate) fn find_with_cargo(file: &str) -> Option<PathBuf> {
    find(file).or_else(|| {
        let installed = Path::new(&env::var_os("HOME")?)
            .join(".cargo/bin")
            .join(file);
        installed.is_file().then_some(installed)
    })
}

/// Whether this process may do everything on this machine.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs what is missing of `tools`, and says what and why.
pub(crate) fn ensure_installed(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| tool.is_missing()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let list = packages.join(" ");
    for tool in &missing {
        eprintln!(
            "missing: {} (package {}), {}",
            tool.file, tool.package, tool.why
        );
    }
    ensure!(
        is_root(),
        "packages are missing; run: sudo apt-get install {list}"
    );
    ensure!(
        find("apt-get").is_some(),
        "packages are missing and this is no Debian or Ubuntu: install what Debian calls {list}"
    );
    install(&packages).with_context(|| format!("cannot install {list}"))?;
    match missing.iter().find(|tool| tool.is_missing()) {
        Some(tool) => bail!(
            "package {} is installed but {} is not there",
            tool.package,
            tool.file
        ),
        None => Ok(()),
    }
}

fn install(packages: &[&str]) -> Result<()> {
    let step = Step::start(format!("installing {}", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .stdin(Stdio::null());
        apt
    };
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(packages);
    // The package lists of a fresh machine are empty, those of another are fresh enough: try before the update.
    if command::output(&mut apt(&arguments)).is_err() {
        step.doing("updating the package lists");
        command::output(&mut apt(&["update"]))?;
        command::output(&mut apt(&arguments))?;
    }
    step.done("");
    Ok(())
}
