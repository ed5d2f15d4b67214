//! QEMU's command line for L1. docs/testbed.md says why each flag is there.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::Testbed;
use super::emulator::{self, Emulator};
use super::image::{INIT_PATH, Image};
use super::streams::PORTS;
use crate::packages::Tool;

/// What a run needs on the host.
pub(super) const TOOLS: &[Tool] = &[
    emulator::TOOL,
    Tool::new("setpriv", "util-linux", "ends the testbed with xtask"),
];
/// L1's kernel messages, below the run's directory.
pub(super) const CONSOLE: &str = "console.log";
/// What QEMU itself says.
pub(super) const LOG: &str = "qemu.log";
/// Under instruction counting an idle processor's clock leaps ahead, past the 30 s that Linux gives a disk, before a busy
/// host has read a block: every read then fails with EIO.
const PATIENCE: &str = "nvme_core.io_timeout=1000000 nvme_core.admin_timeout=1000000";
/// The disk that tests may give away; its size is apparent only.
const SPARE: &str = "spare.img";
const SPARE_SIZE: u64 = 256 << 20;

/// Starts L1; its virtiofs daemons and ports listen already.
pub(super) fn start(
    emulator: &Emulator,
    testbed: &Testbed,
    image: &Image,
    tags: &[&str],
    dir: &Path,
) -> Result<Child> {
    File::create(dir.join(SPARE))?.set_len(SPARE_SIZE)?;
    let log = File::create(dir.join(LOG))?;
    let mut qemu = emulator.command();
    qemu.args(board(testbed));
    qemu.args(disks(image, dir));
    qemu.args(tags.iter().flat_map(|tag| share(tag, dir)));
    qemu.args(ports(dir));
    qemu.arg("-kernel").arg(&image.kernel);
    qemu.arg("-append").arg(format!(
        "console=ttyS0 quiet root=/dev/nvme0n1 rw init={INIT_PATH} intel_iommu=on reboot=t panic=-1 no_timer_check {PATIENCE}"
    ));
    qemu.stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start QEMU")
}

fn board(testbed: &Testbed) -> Vec<String> {
    let processors = if testbed.count {
        "-accel tcg,thread=single -smp 1 -icount shift=0,sleep=off".to_owned()
    } else {
        format!("-accel tcg,thread=multi -smp {}", testbed.cpus)
    };
    let memory = testbed.memory;
    // vhost-user needs memory that another process can map.
    let words = format!(
        "-M q35 -cpu EPYC,+svm,+npt -nodefaults -no-user-config -no-reboot -display none -monitor none {processors} \
         -m {memory} -object memory-backend-memfd,id=memory,size={memory}M,share=on -numa node,memdev=memory \
         -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48"
    );
    words.split_whitespace().map(str::to_owned).collect()
}

fn disks(image: &Image, dir: &Path) -> Vec<String> {
    let disk = |name: &str, path: &Path, options: &str| {
        let drive = format!(
            "file={},if=none,id={name},format=raw{options}",
            escape(path)
        );
        [
            "-drive".to_owned(),
            drive,
            "-device".to_owned(),
            format!("nvme,drive={name},serial={name}"),
        ]
    };
    let root = disk("root", &image.disk, ",snapshot=on");
    let spare = disk("spare", &dir.join(SPARE), "");
    root.into_iter().chain(spare).collect()
}

fn share(tag: &str, dir: &Path) -> [String; 4] {
    let socket = escape(&dir.join(format!("{tag}.sock")));
    [
        "-chardev".to_owned(),
        format!("socket,id={tag},path={socket}"),
        "-device".to_owned(),
        format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
    ]
}

fn ports(dir: &Path) -> Vec<String> {
    let mut words = vec![
        "-serial".to_owned(),
        format!("file:{}", dir.join(CONSOLE).display()),
        "-device".to_owned(),
        "virtio-serial-pci".to_owned(),
    ];
    for port in PORTS {
        let socket = escape(&dir.join(port));
        words.extend([
            "-chardev".to_owned(),
            format!("socket,id={port},path={socket}"),
        ]);
        words.extend([
            "-device".to_owned(),
            format!("virtserialport,chardev={port},name={port}"),
        ]);
    }
    words
}

/// A path within one of QEMU's comma-separated options.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
