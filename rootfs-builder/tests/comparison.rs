//! The same image unpacked by husk-rootfs, by umoci and by Podman: the same tree, to the last attribute and date.
//!
//! This needs root and programs that not every machine has (Debian packages umoci and podman); where they are missing it says so.
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::layout::Layout;
use support::place::{Place, oci, pack};
use support::special::root;
use support::tar::{Entry, archive};
use support::{is_root, listing, special, stderr, unpack};

/// Runs a program, which must succeed, and returns what it wrote.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn by_umoci(place: &Place) -> PathBuf {
    let bundle = place.path("umoci");
    let image = format!("{}:latest", place.path("layout").display());
    run(Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(&bundle));
    bundle.join("rootfs")
}

/// Podman keeps the layers apart or together; mounted, they are one tree.
fn by_podman(place: &Place, check: impl Fn(&Path)) {
    let podman = || {
        let mut command = Command::new("podman");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(place.path("storage"));
        command.arg("--runroot").arg(place.path("run"));
        command
    };
    // Podman makes a name of the path to a layout, in which no capitals may be; an archive names itself.
    pack(&place.path("layout"), &place.path("image.tar"));
    let archive = format!("oci-archive:{}", place.path("image.tar").display());
    let image = run(podman().args(["pull", "-q", &archive]));
    let mounted = run(podman().args(["image", "mount", image.trim()]));
    check(Path::new(mounted.trim()));
    run(podman().args(["image", "unmount", image.trim()]));
    run(podman().args(["image", "rm", image.trim()]));
}

/// Compares what the three make of an image. Its directories are all in its layers: of others umoci and Podman say the day.
fn compare(name: &str, layers: &[Vec<u8>]) {
    let place = Place::new();
    let layout = Layout(&place.path("layout")).0.to_owned();
    let layout = Layout(&layout);
    let mut manifest = layout.manifest(layers);
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    layout.index(&[manifest]);
    let root = place.path("work/root");
    let output = unpack(&oci(&place.path("layout")), &root, &[]);
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    let ours = listing::full(&root);
    assert!(ours.len() > 1, "{name}");
    assert_eq!(ours, listing::full(&by_umoci(&place)), "{name}: umoci");
    // Podman dates the root anew as it unpacks.
    by_podman(&place, |mounted| {
        assert_eq!(ours[1..], listing::full(mounted)[1..], "{name}: Podman");
    });
    fs::remove_dir_all(place.path("layout")).unwrap();
}

#[test]
fn five_images_are_the_same_by_three_programs() {
    let programs = ["/usr/bin/umoci", "/usr/bin/podman"];
    if !is_root() || !programs.iter().all(|program| Path::new(program).exists()) {
        eprintln!("not tested: needs root, umoci and podman");
        return;
    }
    compare(
        "one file",
        &[archive(&[root(), Entry::file("hello", b"hello")])],
    );
    compare("every special case", &special::layers());
    let many: Vec<Entry> = std::iter::once(root())
        .chain((0..40).map(|n| Entry::dir(format!("d{n}"))))
        .chain((0..2000).map(|n| {
            Entry::file(format!("d{}/f{n}", n % 40), format!("{n}").as_bytes())
                .mode(0o600 + n % 0o200)
        }))
        .collect();
    compare("many files", &[archive(&many)]);
    let layers: Vec<Vec<u8>> = (0..30)
        .map(|n| {
            let whiteout = Entry::file(format!("d/.wh.f{}", n.max(2) - 2), b"");
            let entries = [
                root(),
                Entry::dir("d"),
                Entry::file(format!("d/f{n}"), b"x"),
                whiteout,
            ];
            archive(&entries[..if n < 2 { 3 } else { 4 }])
        })
        .collect();
    compare("many layers", &layers);
    compare(
        "replaced by other kinds",
        &[
            archive(&[
                root(),
                Entry::dir("a"),
                Entry::file("a/x", b"x"),
                Entry::file("b", b"b"),
                Entry::symlink("c", "a"),
                Entry::file("h", b"h"),
                Entry::hard_link("i", "h"),
            ]),
            archive(&[
                root(),
                Entry::file("a", b"a"),
                Entry::dir("b"),
                Entry::file("b/y", b"y"),
                Entry::dir("c"),
                Entry::file("c/z", b"z"),
                Entry::file("h", b"new"),
            ]),
        ],
    );
}
