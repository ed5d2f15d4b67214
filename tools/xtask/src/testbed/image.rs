//! L1's root disk and kernel: a Debian, made once by mmdebstrap, and kept in the cache under a key of everything it is made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command;
use crate::packages::{self, Tool};
use crate::paths;
use crate::progress::Step;

/// What the image is made with.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "mmdebstrap",
        "mmdebstrap",
        "makes the Debian of the testbed",
    ),
    Tool::new("mke2fs", "e2fsprogs", "makes the disk of the testbed"),
    Tool::new(
        "unshare",
        "util-linux",
        "unpacks the testbed without being root",
    ),
    Tool::new(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "verifies the Debian of the testbed",
    ),
];

/// What L1 has: a kernel, the engines husk is compared with, and what the tests use.
const PACKAGES: &[&str] = &[
    "apparmor",
    "aardvark-dns",
    "bats",
    "bsdextrautils",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "criu",
    "crun",
    "docker.io",
    "e2fsprogs",
    "fio",
    "fuse-overlayfs",
    "gcc",
    "gdb",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "kmod",
    "libc6-dev",
    "linux-image-cloud-amd64",
    "make",
    "netavark",
    "nftables",
    "passt",
    "podman",
    "procps",
    "python3",
    "qemu-system-x86",
    "runc",
    "slirp4netns",
    "socat",
    "strace",
    "uidmap",
    "util-linux",
];

/// The first process of L1: it fetches the rest of its work from the host.
const INIT: &str = include_str!("init.sh");
/// Where L1's kernel finds [`INIT`].
pub(super) const INIT_PATH: &str = "/testbed-init";
/// The size of L1's root disk: what is installed takes 1.2 GB, the rest is for the job.
const DISK_SIZE: &str = "16G";

/// A finished image.
pub(super) struct Image {
    pub(super) disk: PathBuf,
    pub(super) kernel: PathBuf,
}

/// The image, made if the cache does not have it.
pub(super) fn ensure() -> Result<Image> {
    let suite = suite();
    let dir = paths::cache("testbed")?.join(key(&suite));
    let image = Image {
        disk: dir.join("root.ext4"),
        kernel: dir.join("vmlinuz"),
    };
    if image.disk.exists() {
        return Ok(image);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context("cannot create the lock of the image")?;
    if lock.try_lock().is_err() {
        let step = Step::start("waiting for another xtask to make the testbed's image");
        lock.lock().context("cannot lock the image")?;
        step.done("");
    }
    if !image.disk.exists() {
        make(&suite, &dir, &image)?;
    }
    Ok(image)
}

/// The Debian whose C library runs what this machine compiles: its own release, or the newest where this is no Debian.
fn suite() -> String {
    const NEWEST: &str = "trixie";
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID").as_deref(), value("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename,
        _ => NEWEST.to_owned(),
    }
}

fn key(suite: &str) -> String {
    let mut hash = Sha256::new();
    for part in PACKAGES.iter().chain([&suite, &INIT, &DISK_SIZE]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Makes disk and kernel under other names, then renames: an image that exists is whole.
fn make(suite: &str, dir: &Path, image: &Image) -> Result<()> {
    packages::ensure_installed(TOOLS)?;
    let step = Step::start(format!(
        "making the testbed's Debian {suite} (once, 2-5 minutes)"
    ));
    let work = tempfile::Builder::new().prefix("new-").tempdir_in(dir)?;
    let log = dir.join("log");
    fs::write(&log, "")?;
    let tar = work.path().join("root.tar");
    let mut debootstrap = Command::new("mmdebstrap");
    debootstrap
        .args([
            "--variant=minbase",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(suite)
        .arg(&tar);
    command::logged(&mut debootstrap, &log, &step)?;
    step.doing("writing the disk");
    unpack(work.path(), &log, &step)?;
    fs::rename(work.path().join("vmlinuz"), &image.kernel).context("cannot keep the kernel")?;
    fs::rename(work.path().join("root.ext4"), &image.disk).context("cannot keep the disk")?;
    step.done(&image.disk.display().to_string());
    Ok(())
}

/// Turns `root.tar` into `root.ext4` and `vmlinuz`, all in `work`.
fn unpack(work: &Path, log: &Path, step: &Step) -> Result<()> {
    const SCRIPT: &str = r#"
        cd "$1"
        mkdir root
        tar -x --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' -f root.tar -C root
        rm root.tar
        install -m 755 init "root$2"
        echo testbed >root/etc/hostname
        printf '127.0.0.1 localhost testbed\n::1 localhost\n' >root/etc/hosts
        cp root/boot/vmlinuz-* vmlinuz
        rm root/boot/initrd.img-* 2>/dev/null || true
        mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1,nodiscard -d root root.ext4 "$3"
        rm -r root
    "#;
    fs::write(work.join("init"), INIT)?;
    let mut shell = if packages::is_root() {
        Command::new("sh")
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--map-auto", "sh"]);
        unshare
    };
    shell
        .args(["-ec", SCRIPT, "sh"])
        .arg(work)
        .args([INIT_PATH, DISK_SIZE]);
    command::logged(&mut shell, log, step)?;
    if !work.join("vmlinuz").exists() {
        bail!(
            "the testbed's Debian came without a kernel; see {}",
            log.display()
        );
    }
    Ok(())
}
