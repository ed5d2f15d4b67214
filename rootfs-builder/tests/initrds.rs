//! Initrds as a whole: arguments in, a file out, which GNU cpio reads (Debian packages cpio, lz4 and zstd).
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::layout::Layout;
use support::place::{Place, oci};
use support::tar::{Entry, archive};
use support::{husk_rootfs, is_root, listing, special, stderr, unpack};

/// A place with a file that looks like an agent.
fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("agent"), b"\x7fELF and more").unwrap();
    fs::write(place.path("extra"), b"extra").unwrap();
    place
}

fn initrd(place: &Place, arguments: &[&str]) -> Output {
    let mut command = husk_rootfs();
    command.arg("initrd").args(arguments);
    command.arg("--output").arg(place.path("work/initrd"));
    command.current_dir(place.path("")).output().unwrap()
}

fn made(place: &Place, arguments: &[&str]) -> Vec<u8> {
    let output = initrd(place, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    fs::read(place.path("work/initrd")).unwrap()
}

fn refused(place: &Place, arguments: &[&str], words: &str) {
    let output = initrd(place, arguments);
    let errors = stderr(&output);
    assert!(
        !output.status.success() && errors.contains(words),
        "{errors}"
    );
    assert_eq!(listing::names(&place.path("work")), Vec::<String>::new());
}

/// Runs a program with this input.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

fn names(archive: &[u8]) -> String {
    String::from_utf8(filter("cpio", &["-it", "--quiet"], archive)).unwrap()
}

#[test]
fn the_agent_is_init_and_extra_files_have_their_directories() {
    let place = place();
    let archive = made(
        &place,
        &[
            "--agent",
            "agent",
            "--compress",
            "none",
            "--file",
            "extra:/usr/lib/x",
            "--file",
            "extra:/etc/y:4640",
        ],
    );
    let expected = ".\ndev\netc\netc/y\ninit\nproc\nrun\nsys\nusr\nusr/lib\nusr/lib/x\n";
    assert_eq!(names(&archive), expected);
    let list = filter("cpio", &["-itv", "--quiet", "--numeric-uid-gid"], &archive);
    let list = String::from_utf8(list).unwrap();
    let line = list.lines().find(|line| line.ends_with("etc/y")).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        fields,
        [
            "-rwSr-----",
            "1",
            "0",
            "0",
            "5",
            "Jan",
            "1",
            "1970",
            "etc/y"
        ]
    );
    let content = filter("cpio", &["-i", "--to-stdout", "--quiet", "init"], &archive);
    assert_eq!(content, b"\x7fELF and more");
}

#[test]
fn an_image_is_an_initrd_of_the_same_tree() {
    let place = place();
    Layout(&place.path("layout")).image(&special::layers());
    let image = oci(&place.path("layout"));
    let plain = made(&place, &["--compress", "none", &image]);
    for (compression, program) in [("gzip", "gzip"), ("lz4", "lz4"), ("zstd", "zstd")] {
        let packed = made(&place, &["--compress", compression, &image]);
        assert!(packed.len() < plain.len(), "{compression}");
        assert!(filter(program, &["-dc"], &packed) == plain, "{compression}");
    }
    if !is_root() {
        return;
    }
    let extracted = place.path("extracted");
    fs::create_dir(&extracted).unwrap();
    let directory = extracted.to_str().unwrap();
    filter("cpio", &["-idm", "--quiet", "-D", directory], &plain);
    let root = place.path("root");
    assert!(unpack(&image, &root, &[]).status.success());
    // The format has no place for attributes and fractions of seconds; cpio sets no dates of links, nor of directories that it
    // fills later.
    let comparable = |line: &String| {
        let mut fields: Vec<&str> = line.split(' ').collect();
        fields.pop();
        let content = fields.pop().unwrap();
        let date = fields.pop().unwrap().split('.').next().unwrap();
        let dated = content != "/" && !content.starts_with("->");
        let date = if dated { date } else { "" };
        format!("{} {date} {content}", fields.join(" "))
    };
    let theirs = listing::full(&extracted);
    assert_eq!(listing::full(&root).len(), theirs.len());
    for (ours, theirs) in listing::full(&root).iter().zip(&theirs) {
        assert_eq!(comparable(ours), comparable(theirs));
    }
}

#[test]
fn files_are_put_into_an_image_where_its_links_lead() {
    let place = place();
    let entries = [
        Entry::dir("usr/sbin"),
        Entry::symlink("sbin", "usr/sbin"),
        Entry::file("etc/old", b"old"),
        Entry::file("init", b"its own"),
    ];
    Layout(&place.path("layout")).image(&[archive(&entries)]);
    let image = oci(&place.path("layout"));
    let files = ["--file", "extra:/sbin/x", "--file", "extra:/etc/old"];
    let arguments = [
        &["--agent", "agent", "--compress", "none", &image],
        &files[..],
    ]
    .concat();
    let archive = made(&place, &arguments);
    let expected = ".\ndev\netc\netc/old\ninit\nproc\nrun\nsbin\nsys\nusr\nusr/sbin\nusr/sbin/x\n";
    assert_eq!(names(&archive), expected);
    for (name, content) in [("etc/old", &b"extra"[..]), ("init", b"\x7fELF and more")] {
        let found = filter("cpio", &["-i", "--to-stdout", "--quiet", name], &archive);
        assert_eq!(found, content, "{name}");
    }
    refused_over_directory(&image);
}

fn refused_over_directory(image: &str) {
    refused(
        &place(),
        &[image, "--file", "extra:/usr"],
        "/usr would be both a file and a directory",
    );
}

#[test]
fn the_result_depends_on_content_alone() {
    for compress in ["none", "gzip", "lz4", "zstd"] {
        let (one, two) = (place(), place());
        let agent = File::options().write(true).open(two.path("agent")).unwrap();
        agent.set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::set_permissions(two.path("extra"), fs::Permissions::from_mode(0o600)).unwrap();
        let arguments = |first, second| {
            [
                "--agent",
                "agent",
                "--compress",
                compress,
                "--file",
                first,
                "--file",
                second,
            ]
        };
        let first = made(&one, &arguments("extra:/a", "extra:/b"));
        assert_eq!(
            first,
            made(&two, &arguments("extra:/b", "extra:/a")),
            "{compress}"
        );
    }
}

#[test]
fn an_existing_initrd_is_replaced_and_no_other_file_stays() {
    let place = place();
    fs::write(place.path("work/initrd"), "old").unwrap();
    assert!(made(&place, &["--agent", "agent", "--compress", "none"]).starts_with(b"070701"));
    assert_eq!(fs::read_dir(place.path("work")).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let place = place();
    let agent = ["--agent", "agent"];
    let with = |more: &[&'static str]| [&agent[..], more].concat();
    refused(
        &place,
        &with(&["--file", "extra:etc/x"]),
        "destination 'etc/x' is not an absolute path",
    );
    refused(
        &place,
        &with(&["--file", "extra:/init"]),
        "/init would be there twice",
    );
    let both = ["--file", "extra:/a", "--file", "extra:/a/b"];
    refused(
        &place,
        &with(&both),
        "/a/b would be both a file and a directory",
    );
    refused(
        &place,
        &with(&["--file", "none:/a"]),
        "cannot read none: No such file",
    );
    refused(&place, &["--agent", "work"], "work is not a regular file");
    refused(
        &place,
        &["--agent", "extra"],
        "agent extra is not an ELF program",
    );
    refused(
        &place,
        &with(&["--compress", "xz"]),
        "none, lz4, gzip, zstd",
    );
    refused(&place, &[], "required arguments were not provided");
    File::create(place.path("agent"))
        .unwrap()
        .set_len(5 << 30)
        .unwrap();
    File::options()
        .write(true)
        .open(place.path("agent"))
        .unwrap()
        .write_all(b"\x7fELF")
        .unwrap();
    refused(
        &place,
        &agent,
        "/init has 4 GiB or more, which no initrd can hold",
    );
}

#[test]
fn the_result_is_told_as_json() {
    let place = place();
    let output = initrd(&place, &["--agent", "agent", "--json"]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let path: PathBuf = result["file"].as_str().unwrap().into();
    let bytes = fs::read(path).unwrap();
    assert_eq!(result["digest"], support::layout::digest(&bytes));
    assert_eq!(result["size"], bytes.len());
    assert_eq!(result["written"]["files"], 6);
}
