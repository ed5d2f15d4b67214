//! The OCI bundle of `cargo xtask run`: Debian's static busybox as the whole root file system, made once and cached, or an image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::progress::Step;
use crate::{build, command, packages, paths};

/// Directories that the default mounts of a container expect.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "etc", "proc", "root", "sys", "tmp"];

/// Writes a bundle to `dir` whose process is `command`.
pub(crate) fn write(dir: &Path, command: &[String]) -> Result<()> {
    let busybox = busybox()?;
    let root = dir.join("rootfs");
    for name in DIRECTORIES {
        fs::create_dir_all(root.join(name))?;
    }
    let bin = root.join("bin");
    fs::copy(&busybox, bin.join("busybox")).context("cannot copy busybox")?;
    for applet in command::output(Command::new(&busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", bin.join(applet))
                .with_context(|| format!("cannot link {applet}"))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    configure(dir, command)
}

/// Makes a bundle of an image, whose process is `command` if it says one.
pub(crate) fn of_image(dir: &Path, image: &str, command: &[String]) -> Result<()> {
    let mut rootfs = Command::new(build::bin("husk-rootfs"));
    rootfs.arg("bundle");
    if !packages::is_root() {
        rootfs.arg("--rootless");
    }
    rootfs.arg(image).arg(dir);
    if !command.is_empty() {
        rootfs.arg("--").args(command);
    }
    command::output(&mut rootfs).map(drop)
}

/// husk's own default config, with our process in place of a shell on a terminal.
fn configure(dir: &Path, command: &[String]) -> Result<()> {
    command::output(
        Command::new(build::bin("husk"))
            .args(["spec", "--bundle"])
            .arg(dir),
    )?;
    let path = dir.join("config.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: Value = serde_json::from_str(&text).context("husk spec wrote no JSON")?;
    config["process"]["args"] = json!(command);
    config["process"]["terminal"] = json!(false);
    fs::write(&path, serde_json::to_vec_pretty(&config)?).context("cannot write config.json")
}

/// Debian's static busybox, without installing it: its package conflicts with the dynamic one.
fn busybox() -> Result<PathBuf> {
    let dir = paths::cache("busybox")?;
    let file = dir.join("busybox");
    if file.exists() {
        return Ok(file);
    }
    let step = Step::start("downloading busybox");
    let work = tempfile::tempdir_in(&dir)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args([
            "-q",
            "-o",
            "APT::Sandbox::User=root",
            "download",
            "busybox-static",
        ]);
        command::output(apt.current_dir(work.path()))
    };
    if let Err(error) = download() {
        if !packages::is_root() {
            return Err(error.context("run: sudo apt-get update"));
        }
        command::output(Command::new("apt-get").args(["-q", "update"]))?;
        download()?;
    }
    let Some(package) = fs::read_dir(work.path())?.flatten().next() else {
        bail!("apt-get downloaded no package busybox-static");
    };
    let unpacked = work.path().join("unpacked");
    command::output(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(package.path())
            .arg(&unpacked),
    )?;
    // Before /usr was merged it was in /bin.
    let found = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.exists());
    let found = found.context("package busybox-static has no busybox")?;
    fs::rename(found, &file).context("cannot keep busybox")?;
    step.done("");
    Ok(file)
}
