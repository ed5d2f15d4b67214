//! Images in every form in which they are kept, right and wrong: what is not as its documents say is refused, and nothing is
//! left of it.
#![expect(clippy::too_many_lines, reason = "they are tables")]

mod support;

use std::fs::{self, File};

use serde_json::{Value, json};
use support::layout::{CONFIG, INDEX, LAYER, Layout, MANIFEST, digest};
use support::place::{Place, gzip, oci, pack};
use support::tar::{self, Entry, archive};
use support::{husk_rootfs, listing, stderr, unpack};

fn layers() -> Vec<Vec<u8>> {
    vec![
        archive(&[Entry::dir("d"), Entry::file("d/a", b"a")]),
        archive(&[Entry::file("d/b", b"b")]),
    ]
}

const TREE: &[&str] = &["d/", "d/a=a", "d/b=b"];

#[test]
fn a_layout_as_a_directory_and_as_an_archive() {
    let place = Place::new();
    Layout(&place.layout()).image(&layers());
    place.holds(&oci(&place.layout()), &[], TREE);
    let file = place.path("image.tar");
    pack(&place.layout(), &file);
    place.holds(&format!("oci-archive:{}", file.display()), &[], TREE);
    fs::write(place.path("image.tgz"), gzip(&fs::read(&file).unwrap())).unwrap();
    place.holds(
        &format!("oci-archive:{}", place.path("image.tgz").display()),
        &[],
        TREE,
    );
    fs::write(&file, &fs::read(&file).unwrap()[..3000]).unwrap();
    place.refuses(
        &format!("oci-archive:{}", file.display()),
        &[],
        "ends in the middle of an entry",
    );
}

#[test]
fn an_archive_as_docker_saves_it() {
    let place = Place::new();
    let dir = place.path("saved");
    fs::create_dir_all(dir.join("one")).unwrap();
    fs::create_dir_all(dir.join("two")).unwrap();
    let [first, second] = &layers()[..] else {
        panic!("two layers")
    };
    fs::write(dir.join("one/layer.tar"), first).unwrap();
    fs::write(dir.join("two/real.tar"), second).unwrap();
    // As older versions of Docker write a layer that two images share.
    std::os::unix::fs::symlink("../two/real.tar", dir.join("two/layer.tar")).unwrap();
    let config = Layout(&place.layout()).config(&layers()).to_string();
    let name = format!("{}.json", &digest(config.as_bytes())["sha256:".len()..]);
    fs::write(dir.join(&name), &config).unwrap();
    let saved = |layers: &[&str]| {
        let image = json!({"Config": name, "RepoTags": ["localhost/a:latest"], "Layers": layers});
        fs::write(dir.join("manifest.json"), json!([image]).to_string()).unwrap();
        pack(&dir, &place.path("saved.tar"));
    };
    let image = |name: &str| format!("docker-archive:{}{name}", place.path("saved.tar").display());
    saved(&["one/layer.tar", "two/layer.tar"]);
    for name in ["", ":localhost/a", ":localhost/a:latest"] {
        place.holds(&image(name), &[], TREE);
    }
    place.refuses(
        &image(":localhost/b"),
        &[],
        "no image is called localhost/b; there are: localhost/a:latest",
    );
    saved(&["two/layer.tar", "one/layer.tar"]);
    place.refuses(&image(""), &[], "layer two/layer.tar unpacks to sha256:");
    saved(&["one/layer.tar"]);
    place.refuses(
        &image(""),
        &[],
        "the archive has 1 layers, but its configuration 2",
    );
    saved(&["one/layer.tar", "../../etc/passwd"]);
    place.refuses(
        &image(""),
        &[],
        "cannot open layer ../../etc/passwd: not in the archive",
    );
    fs::write(dir.join(&name), config.replace("amd64", "arm64")).unwrap();
    saved(&["one/layer.tar", "two/layer.tar"]);
    place.refuses(&image(""), &[], "is not what its name says");
}

#[test]
fn a_directory_and_a_tar_archive_of_a_root() {
    let place = Place::new();
    let dir = place.path("tree");
    fs::create_dir_all(dir.join("d")).unwrap();
    fs::write(dir.join("d/a"), "a").unwrap();
    fs::hard_link(dir.join("d/a"), dir.join("d/b")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("l")).unwrap();
    File::create(dir.join("sparse"))
        .unwrap()
        .set_len(3)
        .unwrap();
    let tree = ["d/", "d/a=a", "d/b=a", "l->/etc/passwd", "sparse=\0\0\0"];
    place.holds(&format!("dir:{}", dir.display()), &[], &tree);
    pack(&dir, &place.path("tree.tar"));
    place.holds(
        &format!("tar:{}", place.path("tree.tar").display()),
        &[],
        &tree,
    );
    place.refuses(
        &format!("dir:{}", dir.display()),
        &["--max-entries", "3"],
        "more than 3 entries",
    );
    place.refuses(
        &format!("tar:{}", place.path("tree.tar").display()),
        &["--max-size", "10000"],
        "--max-size",
    );
    place.refuses("tar:/dev/zero", &[], "not a regular file");
    place.refuses("dir:/nowhere", &[], "cannot read /nowhere");
}

#[test]
fn an_image_is_chosen_by_name_digest_and_platform() {
    let place = Place::new();
    let layout = Layout(&place.layout()).0.to_owned();
    let layout = Layout(&layout);
    let image = |text: &[u8]| layout.manifest(&[archive(&[Entry::file("f", text)])]);
    let with = |mut descriptor: Value, key: &str, value: Value| {
        descriptor[key] = value;
        descriptor
    };
    let name = |name: &str| json!({"org.opencontainers.image.ref.name": name});
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let (one, two) = (image(b"1"), image(b"2"));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        with(image(b"arm"), "platform", platform("arm64")), with(image(b"amd"), "platform", platform("amd64"))]});
    let several = layout.document(INDEX, &index);
    layout.index(&[
        with(one, "annotations", name("one")),
        with(two.clone(), "annotations", name("two")),
        with(several, "annotations", name("several")),
    ]);
    let at = |which: &str| format!("{}{which}", oci(&place.layout()));
    place.holds(&at(":one"), &[], &["f=1"]);
    place.holds(
        &at(&format!("@{}", two["digest"].as_str().unwrap())),
        &[],
        &["f=2"],
    );
    place.holds(&at(":several"), &[], &["f=amd"]);
    place.refuses(
        &at(""),
        &[],
        "3 images are there; one must be chosen: one, two, several",
    );
    place.refuses(
        &at(":three"),
        &[],
        "no image is called three; there are: one, two, several",
    );
    place.refuses(
        &at(":several"),
        &["--platform", "linux/s390x"],
        "no image for linux/s390x; it has linux/arm64, linux/amd64",
    );
    place.refuses(
        &at(":one"),
        &["--platform", "linux/arm64"],
        "no image for linux/arm64; it has linux/amd64",
    );
    place.refuses(
        &at(&format!(":one@{}", two["digest"].as_str().unwrap())),
        &[],
        "no image is called one@sha256:",
    );
}

#[test]
fn documents_that_lie_are_refused() {
    let place = Place::new();
    let image = oci(&place.layout());
    let path = place.layout();
    let layout = Layout(&path);
    let fresh = |index: &dyn Fn() -> Vec<Value>, words: &str| {
        drop(fs::remove_dir_all(&path));
        let entries = index();
        layout.index(&entries);
        place.refuses(&image, &[], words);
    };
    let with = |mut value: Value, key: &str, other: Value| {
        value[key] = other;
        value
    };
    let manifest = |change: &dyn Fn(Value) -> Value| {
        let config = layout.document(CONFIG, &layout.config(&layers()));
        let blobs: Vec<Value> = layers()
            .iter()
            .map(|layer| layout.blob(LAYER, layer))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": blobs});
        vec![layout.document(MANIFEST, &change(manifest))]
    };
    let plain = || layout.manifest(&layers());
    fresh(
        &|| vec![with(plain(), "size", json!(5))],
        "bytes, but should have 5",
    );
    fresh(
        &|| vec![with(plain(), "digest", json!(digest(b"other")))],
        "cannot read blobs/sha256/",
    );
    fresh(
        &|| vec![with(plain(), "digest", json!("md5:0123"))],
        "by a digest of another kind",
    );
    fresh(
        &|| {
            vec![with(
                plain(),
                "digest",
                json!("sha256:../../../../etc/passwd"),
            )]
        },
        "cannot be understood",
    );
    fresh(
        &|| vec![with(plain(), "mediaType", json!(INDEX))],
        "where what the descriptor says is wanted",
    );
    fresh(
        &|| vec![layout.document("text/html", &json!({}))],
        "is text/html, where an index or a manifest is wanted",
    );
    fresh(
        &|| vec![layout.blob(MANIFEST, b"{not json")],
        "cannot be understood",
    );
    fresh(
        &|| vec![layout.blob(MANIFEST, &vec![b' '; 5 << 20])],
        "has more than 4194304 bytes",
    );
    fresh(
        &|| vec![nested(&layout, 6)],
        "indexes are nested in each other more than 4 deep",
    );
    fresh(
        &|| vec![layout.document(INDEX, &json!({"schemaVersion": 2, "manifests": []}))],
        "it has none",
    );
    fresh(
        &|| manifest(&|manifest| with(manifest, "layers", json!([]))),
        "has 0 layers, but its configuration 2",
    );
    fresh(
        &|| {
            manifest(&|mut manifest| {
                manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
                manifest
            })
        },
        "helm.config.v1+json, where the configuration of an image is wanted",
    );
    fresh(
        &|| {
            manifest(&|mut manifest| {
                manifest["layers"][0]["mediaType"] = json!("application/x-executable");
                manifest
            })
        },
        "is application/x-executable, where a layer is wanted",
    );
    fresh(
        &|| {
            manifest(&|mut manifest| {
                manifest["layers"][1]["size"] = json!(7);
                manifest
            })
        },
        "bytes, but should have 7",
    );
    fresh(
        &|| {
            manifest(&|mut manifest| {
                manifest["layers"].as_array_mut().unwrap().reverse();
                manifest
            })
        },
        "but the configuration says sha256:",
    );
    fresh(&|| vec![layout.manifest(&[])], "the image has no layers");
    fresh(&Vec::new, "no image is called");
}

/// An index in an index in an index.
fn nested(layout: &Layout<'_>, depth: usize) -> Value {
    (0..depth).fold(layout.manifest(&layers()), |below, _| {
        layout.document(INDEX, &json!({"schemaVersion": 2, "manifests": [below]}))
    })
}

#[test]
fn blobs_that_are_not_what_they_should_be_are_refused() {
    let place = Place::new();
    let (path, image) = (place.layout(), oci(&place.layout()));
    let layout = Layout(&path);
    layout.image(&layers());
    let blob = |bytes: &[u8]| {
        path.join("blobs/sha256")
            .join(&digest(bytes)["sha256:".len()..])
    };
    let top = &layers()[1];
    let name = blob(top);
    let mut flipped = top.clone();
    flipped[600] ^= 1;
    fs::write(&name, &flipped).unwrap();
    place.refuses(
        &image,
        &[],
        &format!("layer {} is not what its digest says", digest(top)),
    );
    fs::write(&name, &top[..1000]).unwrap();
    place.refuses(&image, &[], "has 1000 bytes, but should have");
    fs::remove_file(&name).unwrap();
    place.refuses(&image, &[], "cannot open layer");
    std::os::unix::fs::symlink("/etc/passwd", &name).unwrap();
    place.refuses(&image, &[], "cannot open layer");
    fs::remove_file(&name).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &name,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    place.refuses(&image, &[], "not a regular file");
}

#[test]
fn a_bomb_is_stopped_and_limits_have_names() {
    let place = Place::new();
    let path = place.layout();
    let layout = Layout(&path);
    let packed = gzip(&archive(&[Entry::file("zeros", &vec![0; 30 << 20])]));
    let config = layout.document(CONFIG, &layout.config(&[archive(&[])]));
    let layer = layout.blob(LAYER, &packed);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    place.refuses(
        &oci(&path),
        &["--max-size", "20M"],
        "unpacks to more than 20971520 bytes (--max-size)",
    );

    let many: Vec<Vec<u8>> = (0..20)
        .map(|n| archive(&[Entry::file(format!("f{n}"), b"")]))
        .collect();
    layout.image(&many);
    place.refuses(
        &oci(&path),
        &["--max-layers", "19"],
        "the image has 20 layers, more than 19 (--max-layers)",
    );
    place.refuses(
        &oci(&path),
        &["--max-entries", "19"],
        "f19: the image has more than 19 entries (--max-entries)",
    );
    place.refuses(&oci(&path), &["--max-size", "20000"], "(--max-size)");
    layout.image(&[archive(&[Entry::file("a/b/c", b"")])]);
    place.refuses(
        &oci(&path),
        &["--max-depth", "2"],
        "more than 2 directories deep (--max-depth)",
    );
}

#[test]
fn the_result_tells_digests_and_sizes() {
    let place = Place::new();
    Layout(&place.layout()).image(&layers());
    let output = unpack(&oci(&place.layout()), &place.path("work/root"), &["--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["image"]["layers"][1]["digest"], digest(&layers()[1]));
    assert_eq!(
        result["image"]["layers"][0]["unpacked_size"],
        layers()[0].len()
    );
    assert_eq!(result["written"]["files"], 3);
}

#[test]
fn what_is_there_stays() {
    let place = Place::new();
    Layout(&place.layout()).image(&layers());
    let root = place.path("work/root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("mine"), "x").unwrap();
    let output = unpack(&oci(&place.layout()), &root, &[]);
    assert!(
        stderr(&output).contains("exists and is not an empty directory"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        listing::names(&place.path("work")),
        ["root/", "root/mine=x"]
    );
    fs::remove_file(root.join("mine")).unwrap();
    place.holds(&oci(&place.layout()), &[], TREE);
    let output = husk_rootfs()
        .args(["unpack", "nothing", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_sparse_file_stays_sparse() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let layer = tar::raw(&[tar::old_sparse("big", &[(50 << 30, 4)], 100 << 30, b"data")]);
    Layout(&place.layout()).image(&[layer]);
    let root = place.path("work/root");
    let output = unpack(&oci(&place.layout()), &root, &["--max-size", "200G"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let data = fs::metadata(root.join("big")).unwrap();
    assert_eq!(data.len(), 100 << 30);
    assert!(data.blocks() < 100, "{} blocks", data.blocks());
}
