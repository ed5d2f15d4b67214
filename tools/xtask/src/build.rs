//! `cargo xtask build`: everything that is installed, into a prefix below the build directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::packages::{self, Tool};
use crate::{manual, paths};

/// What the build needs besides Rust. The kernel's own needs are in `kernel.rs`.
pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("cc", "gcc", "links the programs"),
    Tool::new(
        "/usr/include/seccomp.h",
        "libseccomp-dev",
        "is linked into the agent",
    ),
    Tool::new(
        "/usr/lib/x86_64-linux-gnu/libc.a",
        "libc6-dev",
        "is linked into the agent",
    ),
];
/// The programs of the host, by package and file name.
const PROGRAMS: [(&str, &str); 3] = [
    ("runtime", "husk"),
    ("vmm", "husk-vmm"),
    ("rootfs-builder", "husk-rootfs"),
];
/// The guest's programs are static; naming the target keeps its flags away from build scripts and from everything else.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Static, at a fixed address: no relocations to apply, nor to carry.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// What the linker leaves out of the guest's programs.
const STATIC_SCRIPT: &str = "tools/xtask/src/static.ld";
/// The profile of the guest's programs, and the directory of what is built by it.
const STATIC_PROFILE: &str = "guest";

/// Build all programs, the kernel and the initrd, and install them to target/husk (bin/ and share/: husk/, manual pages, shell completion).
#[derive(Args, Default)]
pub(crate) struct Build {
    /// Compile quickly instead of well; for development, never for measurements
    #[arg(long)]
    pub(crate) debug: bool,
    /// Build nothing and take what is installed in target/husk
    #[arg(long, conflicts_with_all = ["debug", "kernel"])]
    pub(crate) installed: bool,
    /// Install this vmlinux instead of building husk's own
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
}

/// Builds and installs everything.
pub(crate) fn run(build: &Build) -> Result<()> {
    if build.installed {
        let missing = [
            bin("husk"),
            bin("husk-vmm"),
            share("vmlinux"),
            share("initrd.img"),
        ]
        .into_iter()
        .find(|file| !file.exists());
        return missing.map_or(Ok(()), |file| {
            bail!("{} is not installed: run cargo xtask build", file.display())
        });
    }
    packages::ensure_installed(TOOLS)?;
    let packages = PROGRAMS
        .iter()
        .flat_map(|(package, _)| ["--package", package]);
    cargo(
        Command::new("cargo")
            .args(["build", "--locked"])
            .args(packages),
        build.debug,
    )?;
    let profile = if build.debug { "debug" } else { "release" };
    let target = paths::target();
    for (_, program) in PROGRAMS {
        install(&target.join(profile).join(program), &bin(program), 0o755)?;
    }
    let kernel = match &build.kernel {
        Some(kernel) => kernel.clone(),
        None => crate::kernel::vmlinux(false)?,
    };
    install(&kernel, &share("vmlinux"), 0o644)?;
    // Also for disks and initrds that users make.
    let agent = share("husk-agent");
    static_program("agent", "husk-agent", &agent)?;
    manual::install(&paths::prefix().join("share"), &bin("husk-rootfs"))?;
    initrd(&agent)
}

/// The initrd lies in every sandbox's memory.
const MAX_INITRD: u64 = 4 << 20;

/// Builds a program that runs in a guest, where there is no C library, and installs it.
pub(crate) fn static_program(package: &str, program: &str, to: &Path) -> Result<()> {
    let script = paths::workspace().join(STATIC_SCRIPT);
    let mut build = Command::new("cargo");
    build
        .args([
            "rustc",
            "--locked",
            "--package",
            package,
            "--bin",
            program,
            "--target",
            STATIC_TARGET,
            // Never a debug build: what the guest holds in memory is part of every measurement and limit.
            "--profile",
            STATIC_PROFILE,
            "--",
            "-C",
        ])
        .arg(format!("link-arg=-Wl,-T,{}", script.display()))
        .env("RUSTFLAGS", STATIC_FLAGS);
    cargo(&mut build, true)?;
    install(
        &paths::target()
            .join(STATIC_TARGET)
            .join(STATIC_PROFILE)
            .join(program),
        to,
        0o755,
    )
}

/// Where a program is installed.
pub(crate) fn bin(program: &str) -> PathBuf {
    paths::prefix().join("bin").join(program)
}

/// Where the kernel and the initrd are installed.
pub(crate) fn share(file: &str) -> PathBuf {
    paths::prefix().join("share/husk").join(file)
}

fn cargo(command: &mut Command, debug: bool) -> Result<()> {
    if !debug {
        command.arg("--release");
    }
    // Standard output belongs to the command that is run afterwards.
    let status = command
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo build failed ({status}); see above");
    Ok(())
}

/// Copies by rename: a testbed that has the prefix mounted never sees half a file.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let (Some(dir), Some(name)) = (to.parent(), to.file_name()) else {
        bail!("cannot install to {}", to.display());
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let new = dir.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    fs::copy(from, &new).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, to).with_context(|| format!("cannot install {}", to.display()))
}

/// Not compressed: unpacking costs the guest more than reading costs the VMM.
fn initrd(agent: &Path) -> Result<()> {
    let mut rootfs = Command::new(bin("husk-rootfs"));
    rootfs
        .args(["initrd", "--compress", "none", "--agent"])
        .arg(agent)
        .arg("--output")
        .arg(share("initrd.img"));
    crate::command::output(&mut rootfs)?;
    let size = fs::metadata(share("initrd.img"))?.len();
    ensure!(
        size <= MAX_INITRD,
        "the initrd has {size} bytes, {} too many: the agent has grown",
        size - MAX_INITRD
    );
    Ok(())
}
