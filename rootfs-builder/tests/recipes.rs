//! Recipes as a whole: TOML in, every output out.
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;

use support::layout::Layout;
use support::place::Place;
use support::tar::{Entry, archive};
use support::{husk_rootfs, is_root, listing, stderr};

const RECIPE: &str = r#"
base = "oci:layout"
agent = "agent"
users = [{ name = "app", uid = 1000, groups = ["video"] }]
files = [
    { destination = "/etc/motd", content = "hello\n" },
    { destination = "/usr/bin/job", source = "job.sh", mode = "755", owner = "app" },
    { destination = "/srv", directory = true, owner = "app:video" },
    { destination = "/job", link = "usr/bin/job" },
]
"#;

/// A recipe with this output, and what it names.
fn place(output: &str) -> Place {
    let place = Place::new();
    let entries = [
        Entry::file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        Entry::file("etc/group", b"root:x:0:\nvideo:x:44:\n"),
    ];
    Layout(&place.path("layout")).image(&[archive(&entries)]);
    fs::write(place.path("agent"), b"\x7fELF").unwrap();
    fs::write(place.path("job.sh"), b"#!/bin/sh\n").unwrap();
    fs::write(place.path("recipe.toml"), format!("{RECIPE}{output}\n")).unwrap();
    place
}

fn build(place: &Place) -> Output {
    let mut command = husk_rootfs();
    command
        .args(["build", "--json"])
        .arg(place.path("recipe.toml"));
    command.current_dir("/").output().unwrap()
}

fn built(place: &Place) -> serde_json::Value {
    let output = build(place);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_directory_has_what_the_recipe_says() {
    let place = place("output = { kind = \"directory\", path = \"work/root\", rootless = true }");
    built(&place);
    let expected = [
        "dev/",
        "etc/",
        "etc/group=root:x:0:\nvideo:x:44:app\napp:x:1000:\n",
        "etc/motd=hello\n",
        "etc/passwd=root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
        "home/",
        "home/app/",
        "init=\u{7f}ELF",
        "job->usr/bin/job",
        "proc/",
        "run/",
        "srv/",
        "sys/",
        "usr/",
        "usr/bin/",
        "usr/bin/job=#!/bin/sh\n",
    ];
    assert_eq!(listing::names(&place.path("work/root")), expected);
}

#[test]
fn names_of_owners_are_those_of_the_image() {
    if !is_root() {
        return;
    }
    let place = place("output = { kind = \"bundle\", path = \"work/root\" }");
    built(&place);
    let owner = |name: &str| {
        let data = fs::metadata(place.path("work/root/rootfs").join(name)).unwrap();
        (data.uid(), data.gid())
    };
    assert_eq!(owner("usr/bin/job"), (1000, 1000));
    assert_eq!(owner("srv"), (1000, 44));
    assert_eq!(owner("home/app"), (1000, 1000));
    assert_eq!(owner("init"), (0, 0));
    assert!(place.path("work/root/config.json").exists());
}

#[test]
fn every_kind_of_file_is_made() {
    for (output, magic, at) in [
        ("kind = \"initrd\", compress = \"none\"", &b"070701"[..], 0),
        (
            "kind = \"erofs\", compress = \"lz4\"",
            b"\xe2\xe1\xf5\xe0",
            1024,
        ),
        ("kind = \"ext4\", free = \"1M\"", b"\x53\xef", 1080),
    ] {
        let place = place(&format!("output = {{ {output}, path = \"work/file\" }}"));
        let result = built(&place);
        let bytes = fs::read(place.path("work/file")).unwrap();
        assert!(bytes[at..].starts_with(magic), "{output}");
        assert_eq!(result["digest"], support::layout::digest(&bytes));
    }
    let place = place("output = { kind = \"erofs\", path = \"work/file\", verity = true }");
    let line = built(&place)["verity"]["command_line"].clone();
    assert!(
        line.as_str()
            .unwrap()
            .ends_with("rootfstype=erofs ro init=/init"),
        "{line}"
    );
}

#[test]
fn what_a_recipe_cannot_have_is_named() {
    let refused = |place: &Place, words: &str| {
        let output = build(place);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert_eq!(listing::names(&place.path("work")), Vec::<String>::new());
    };
    let output = "output = { kind = \"initrd\", path = \"work/file\" }";
    let place = place(output);
    fs::write(place.path("job.sh"), "").unwrap();
    fs::remove_file(place.path("job.sh")).unwrap();
    refused(&place, "job.sh: No such file");
    let recipe = |text: &str| fs::write(place.path("recipe.toml"), text).unwrap();
    recipe(&format!(
        "files = [{{destination = \"/a\", content = \"\", owner = \"nobody\"}}]\n{output}"
    ));
    refused(
        &place,
        "/a: the owner: \"nobody\" is no number and not in /etc/passwd",
    );
    recipe(&format!(
        "files = [{{destination = \"/a\", link = \"\"}}]\n{output}"
    ));
    refused(&place, "/a: the target of a symbolic link");
    recipe("output = 1");
    refused(&place, "recipe.toml: TOML parse error at line 1");
    recipe(&"#".repeat((1 << 20) + 1));
    refused(&place, "it has more than 1048576 bytes");
    fs::write(place.path("recipe.toml"), b"\xff").unwrap();
    refused(&place, "cannot read it");
    fs::remove_file(place.path("recipe.toml")).unwrap();
    refused(&place, "cannot read it: No such file");
}

#[test]
#[ignore = "needs root, mmdebstrap and a mirror of Debian, and takes a minute"]
fn packages_are_installed_the_same_way_twice() {
    assert!(
        Path::new("/usr/bin/mmdebstrap").exists(),
        "package mmdebstrap"
    );
    let place = Place::new();
    let digests = ["one", "two"].map(|name| {
        let recipe = format!(
            "packages = {{ suite = \"bookworm\", include = [\"busybox\"] }}\n\
             output = {{ kind = \"erofs\", path = \"work/{name}\" }}\n"
        );
        fs::write(place.path("recipe.toml"), recipe).unwrap();
        built(&place)["digest"].clone()
    });
    assert_eq!(digests[0], digests[1]);
}
