//! Disk images, mounted by the kernel of this machine: the same tree as the directory that is unpacked of the same image.
//!
//! Mounting needs root and a kernel with the file system; where that is missing a test says so and looks no further.
#![expect(clippy::print_stderr, reason = "tells what could not be tested here")]
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::path::Path;
use std::process::Command;

use support::layout::Layout;
use support::place::{Place, oci};
use support::{husk_rootfs, listing, special, stderr, unpack};

/// Runs a program and returns whether it succeeded, with what it wrote.
fn run(command: &mut Command) -> (bool, String) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A mounted image.
struct Mounted(std::path::PathBuf);

impl Mounted {
    /// Mounts an image, if this machine can.
    fn new(place: &Place, kind: &str, image: &Path) -> Option<Self> {
        let supported = std::fs::read_to_string("/proc/filesystems").unwrap();
        if !support::is_root()
            || !supported.contains(kind)
            || !Path::new("/dev/loop-control").exists()
        {
            eprintln!("not mounted: needs root, loop devices and a kernel with {kind}");
            return None;
        }
        let at = place.path("mounted");
        std::fs::create_dir_all(&at).unwrap();
        let (done, text) = run(Command::new("mount")
            .args(["-t", kind, "-o", "ro,loop"])
            .arg(image)
            .arg(&at));
        assert!(done, "{text}");
        Some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

/// Makes a disk of an image with every special case, and compares what is mounted with what is unpacked.
fn same_as_unpacked(kind: &str, options: &[&str]) {
    let place = Place::new();
    Layout(&place.path("layout")).image(&special::layers());
    let image = place.path("disk.img");
    let output = husk_rootfs()
        .arg(kind)
        .args(options)
        .arg(oci(&place.path("layout")))
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let root = place.path("work/root");
    let unpacked = unpack(&oci(&place.path("layout")), &root, &[]);
    assert!(unpacked.status.success(), "{}", stderr(&unpacked));
    if let Some(mounted) = Mounted::new(&place, kind, &image) {
        similar(&listing::full(&root), &listing::full(&mounted.0));
    }
}

/// Compares line by line, and shows the lines that differ.
fn similar(expected: &[String], found: &[String]) {
    let missing: Vec<&String> = expected
        .iter()
        .filter(|line| !found.contains(line))
        .collect();
    let more: Vec<&String> = found
        .iter()
        .filter(|line| !expected.contains(line))
        .collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "missing {missing:#?}\nmore {more:#?}"
    );
}

#[test]
fn an_erofs_image_is_the_same_tree() {
    same_as_unpacked("erofs", &[]);
}

#[test]
fn a_compressed_erofs_image_is_the_same_tree() {
    same_as_unpacked("erofs", &["--compress", "lz4"]);
}

#[test]
fn an_ext4_image_is_the_same_tree() {
    same_as_unpacked("ext4", &[]);
    same_as_unpacked("ext4", &["--free", "0"]);
    same_as_unpacked("ext4", &["--free", "3G"]);
}

/// A disk of an image with every special case, and what is said of the tree of hashes behind it.
fn with_verity(place: &Place, kind: &str) -> (std::path::PathBuf, serde_json::Value) {
    Layout(&place.path("layout")).image(&special::layers());
    let image = place.path("disk.img");
    let output = husk_rootfs()
        .args([kind, "--verity", "--json"])
        .arg(oci(&place.path("layout")))
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (image, result["verity"].clone())
}

#[test]
fn veritysetup_finds_what_it_would_write_itself() {
    if !Path::new("/usr/sbin/veritysetup").exists() {
        eprintln!("not tested: veritysetup is missing (package cryptsetup-bin)");
        return;
    }
    for kind in ["erofs", "ext4"] {
        let place = Place::new();
        let (image, verity) = with_verity(&place, kind);
        let offset = verity["hash_offset"].to_string();
        let root = verity["root_hash"].as_str().unwrap();
        let verify = || {
            run(Command::new("/usr/sbin/veritysetup")
                .args(["verify", "--hash-offset", &offset])
                .args([&image, &image])
                .arg(root))
        };
        assert_eq!(verify(), (true, String::new()));
        let own = place.path("own.hashes");
        let (formatted, text) = run(Command::new("/usr/sbin/veritysetup")
            .args(["format", "--salt", "-", "--data-blocks"])
            .arg(verity["data_blocks"].to_string())
            .args([&image, &own]));
        assert!(formatted, "{text}");
        // Behind the first block, which has a UUID.
        let ours = std::fs::read(&image).unwrap();
        let ours = &ours[usize::try_from(verity["hash_offset"].as_u64().unwrap()).unwrap()..];
        assert!(
            ours[4096..] == std::fs::read(&own).unwrap()[4096..],
            "{kind}"
        );
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&image)
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"!", 5000).unwrap();
        assert!(!verify().0, "{kind}");
    }
}

#[test]
fn e2fsck_finds_no_fault_in_an_ext4_image() {
    let place = Place::new();
    Layout(&place.path("layout")).image(&special::layers());
    let image = place.path("disk.img");
    for free in ["0", "1G"] {
        let output = husk_rootfs()
            .args(["ext4", "--free", free])
            .arg(oci(&place.path("layout")))
            .arg(&image)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let (_, text) = run(Command::new("e2fsck").args(["-f", "-n"]).arg(&image));
        // A directory for what is found is none of the image's; everything else is in order.
        let text = text.replace("/lost+found not found.  Create? no\n", "");
        let faults: Vec<&str> = text
            .lines()
            .filter(|line| {
                !line.is_empty() && !line.starts_with("e2fsck ") && !line.starts_with("Pass ")
            })
            .collect();
        assert!(faults.len() == 1 && faults[0].contains(" files "), "{text}");
    }
}
