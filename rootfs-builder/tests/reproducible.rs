//! The same input makes the same bytes: whatever order a file system has for names, whatever the umask and the time, and whatever
//! order layers are unpacked in.
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs::{self, FileTimes};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use support::layout::Layout;
use support::place::{Place, oci};
use support::{husk_rootfs, special, stderr};

/// Every kind of file that is made, and what it is made with.
const OUTPUTS: [&[&str]; 7] = [
    &["erofs"],
    &["erofs", "--compress", "lz4"],
    &["erofs", "--verity"],
    &["ext4", "--free", "1M"],
    &["initrd", "--compress", "gzip"],
    &["initrd", "--compress", "lz4"],
    &["initrd", "--compress", "zstd"],
];
/// 2020, for everything that has no date.
const DATE: &str = "1577836800";

/// What a shell does to the process before it becomes the program: another umask, another time zone, another place for layers, and
/// as few or as many processors as there are. The last has another clock, where there is something to set it by (package libfaketime).
const SETTINGS: [&str; 4] = [
    "umask 000; exec \"$@\"",
    "umask 077; TZ=Asia/Tokyo LC_ALL=tr_TR.UTF-8 TMPDIR=/tmp exec \"$@\"",
    "umask 027; exec taskset -c 0 \"$@\"",
    "LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null) FAKETIME='2001-02-03 04:05:06' exec \"$@\"",
];

/// Makes one output of an image with one of the settings, and returns its bytes.
fn make(setting: &str, output: &[&str], image: &str, directory: &Path) -> Vec<u8> {
    let program = husk_rootfs();
    let file = directory.join("output");
    let mut command = Command::new("sh");
    command
        .args(["-c", setting, "sh"])
        .arg(program.get_program());
    command
        .args(output)
        .env("SOURCE_DATE_EPOCH", DATE)
        .arg(image);
    if output[0] == "initrd" {
        command.arg("--output");
    }
    let made = command.arg(&file).output().unwrap();
    assert!(made.status.success(), "{output:?}: {}", stderr(&made));
    // What others may do with the result is not a matter of the umask either.
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    fs::read(file).unwrap()
}

/// Makes every output with every setting of each of the images, which are the same.
fn same(images: &[String]) {
    let place = Place::new();
    for output in OUTPUTS {
        let first = make(SETTINGS[0], output, &images[0], &place.path("work"));
        for image in images {
            for setting in SETTINGS {
                let again = make(setting, output, image, &place.path("work"));
                assert!(again == first, "{output:?} of {image} with {setting}");
            }
        }
    }
}

#[test]
fn an_image_makes_the_same_bytes_again() {
    let place = Place::new();
    Layout(&place.path("layout")).image(&special::layers());
    same(&[oci(&place.path("layout"))]);
}

/// Makes a directory whose names were made in this order; file systems show them in one that depends on it, or on a secret.
fn directory(path: &Path, order: &[usize]) {
    fs::create_dir(path).unwrap();
    let name = |number: usize| path.join(format!("name-{number}"));
    for number in order {
        match number % 4 {
            0 => fs::write(name(*number), number.to_string()).unwrap(),
            1 => symlink("name-0", name(*number)).unwrap(),
            2 => fs::hard_link(path.join("0"), name(*number)).unwrap_or_else(|_| {
                fs::write(path.join("0"), "linked").unwrap();
                fs::hard_link(path.join("0"), name(*number)).unwrap();
            }),
            _ => fs::create_dir(name(*number)).unwrap(),
        }
    }
    for entry in fs::read_dir(path).unwrap() {
        dated(&entry.unwrap().path());
    }
    dated(path);
}

/// Gives a file the date and the mode that it has wherever it is.
fn dated(path: &Path) {
    let kind = path.symlink_metadata().unwrap();
    if kind.is_symlink() {
        let touched = Command::new("touch")
            .args(["-h", "-d", "@1000000000"])
            .arg(path)
            .status();
        assert!(touched.unwrap().success());
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = FileTimes::new().set_modified(time).set_accessed(UNIX_EPOCH);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn a_directory_makes_the_same_bytes_in_any_order() {
    let ascending: Vec<usize> = (0..200).collect();
    let descending: Vec<usize> = ascending.iter().rev().copied().collect();
    // 77 and 200 have no divisor in common: every number once, far apart.
    let shuffled: Vec<usize> = ascending.iter().map(|number| number * 77 % 200).collect();
    // Of the file systems at hand the one that shows names in the order in which they were made.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let images: Vec<String> = [ascending, descending, shuffled]
        .iter()
        .enumerate()
        .map(|(number, order)| {
            let path = memory.path().join(number.to_string());
            directory(&path, order);
            format!("dir:{}", path.display())
        })
        .collect();
    let listed = |image: &String| {
        let entries = fs::read_dir(image.strip_prefix("dir:").unwrap()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let mut orders: Vec<_> = images.iter().map(listed).collect();
    orders.dedup();
    assert!(
        orders.len() > 1,
        "this file system shows names in one order only"
    );
    same(&images);
}
