//! Bundles and descriptions of images.
#![expect(
    clippy::unwrap_used,
    reason = "it is test code, though clippy sees no #[test] in it"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::layout::{CONFIG, LAYER, Layout, MANIFEST};
use support::place::{Place, oci};
use support::tar::{Entry, archive};
use support::{husk_rootfs, is_root, listing, stderr};

/// Writes an image with these settings and a few users.
fn image(place: &Place, settings: &Value) -> String {
    let path = place.path("layout");
    let layout = Layout(&path);
    let passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
    let layer = archive(&[
        Entry::dir("etc"),
        Entry::file(
            "etc/group",
            b"root:x:0:\nweb:x:34:\nlog:x:4:root,web\nadm:x:5:web\n",
        ),
        Entry::dir("usr"),
        Entry::dir("usr/share"),
        Entry::file("usr/share/passwd", passwd),
        Entry::symlink("etc/passwd", "../usr/./share/passwd"),
        Entry::file("big", &[b'b'; 300_000]),
    ]);
    let mut config = layout.config(std::slice::from_ref(&layer));
    config["config"] = settings.clone();
    config["author"] = json!("somebody");
    let manifest = json!({
        "schemaVersion": 2,
        "config": layout.document(CONFIG, &config),
        "layers": [layout.blob(LAYER, &layer)],
    });
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    oci(&path)
}

/// Makes a bundle and returns its configuration, or what went wrong.
fn bundle(settings: &Value, arguments: &[&str]) -> Result<Value, String> {
    let place = Place::new();
    let image = image(&place, settings);
    let mut command = husk_rootfs();
    command
        .arg("bundle")
        .arg(&image)
        .arg(place.path("work/bundle"));
    if !is_root() {
        command.arg("--rootless");
    }
    let output = command.args(arguments).output().unwrap();
    if !output.status.success() {
        assert_eq!(listing::names(&place.path("work")), Vec::<String>::new());
        return Err(stderr(&output));
    }
    assert!(place.path("work/bundle/rootfs/usr/share/passwd").exists());
    let config = fs::read(place.path("work/bundle/config.json")).unwrap();
    Ok(serde_json::from_slice(&config).unwrap())
}

#[test]
fn a_bundle_runs_what_the_image_says() {
    let settings = json!({
        "User": "web", "Env": ["PATH=/bin", "A=b"], "WorkingDir": "/srv", "Entrypoint": ["/run"], "Cmd": ["-x"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT", "Labels": {"org.example.label": "l"},
    });
    let config = bundle(&settings, &[]).unwrap();
    let process = &config["process"];
    assert_eq!(process["args"], json!(["/run", "-x"]));
    assert_eq!(
        process["user"],
        json!({"uid": 33, "gid": 34, "additionalGids": [4, 5]})
    );
    assert_eq!(process["env"], json!(["PATH=/bin", "A=b"]));
    assert_eq!(process["cwd"], "/srv");
    let annotations = &config["annotations"];
    assert_eq!(
        annotations["org.opencontainers.image.exposedPorts"],
        "53/udp,80/tcp"
    );
    assert_eq!(
        annotations["org.opencontainers.image.stopSignal"],
        "SIGQUIT"
    );
    assert_eq!(annotations["org.opencontainers.image.author"], "somebody");
    assert_eq!(annotations["org.example.label"], "l");
    let config = bundle(&settings, &["--terminal", "--", "ls", "-l"]).unwrap();
    assert_eq!(config["process"]["args"], json!(["/run", "ls", "-l"]));
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(
        config["process"]["env"],
        json!(["PATH=/bin", "A=b", "TERM=xterm"])
    );
}

#[test]
fn an_image_that_says_nothing_runs_a_shell_as_root() {
    let config = bundle(&json!({}), &[]).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(
        config["process"]["user"],
        json!({"uid": 0, "gid": 0, "additionalGids": [4]})
    );
    assert_eq!(config["process"]["cwd"], "/");
    assert!(
        config["process"]["env"][0]
            .as_str()
            .unwrap()
            .starts_with("PATH=/usr/local/sbin:")
    );
}

#[test]
fn users_are_named_or_numbers() {
    let user = |named: &str| {
        bundle(&json!({"User": named}), &[]).map(|config| config["process"]["user"].clone())
    };
    assert_eq!(user("77").unwrap(), json!({"uid": 77, "gid": 0}));
    assert_eq!(
        user("33").unwrap(),
        json!({"uid": 33, "gid": 34, "additionalGids": [4, 5]})
    );
    assert_eq!(user("web:log").unwrap(), json!({"uid": 33, "gid": 4}));
    assert_eq!(user("1:2").unwrap(), json!({"uid": 1, "gid": 2}));
    assert!(
        user("nobody")
            .unwrap_err()
            .contains("\"nobody\" is no number and not in /etc/passwd of the image")
    );
    assert!(
        user("web:none")
            .unwrap_err()
            .contains("\"none\" is no number and not in /etc/group")
    );
    assert!(user("-1").unwrap_err().contains("is no number"));
    let error = bundle(&json!({"WorkingDir": "srv"}), &[]).unwrap_err();
    assert!(error.contains("the working directory \"srv\" of the image is no absolute path"));
}

#[test]
fn an_image_is_described_as_a_table_as_json_and_as_a_picture() {
    let place = Place::new();
    let image = image(&place, &json!({}));
    let picture = place.path("sizes.svg");
    let output = husk_rootfs()
        .args(["inspect", "--treemap"])
        .arg(&picture)
        .arg(&image)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        " 293.0 KiB         8  /\n",
        "         1    big\n",
        "         2      share\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("passwd"), "{text}");
    let svg = fs::read_to_string(picture).unwrap();
    assert!(svg.contains("big (300000 bytes)"), "{svg}");
    let output = husk_rootfs()
        .args(["inspect", "--json", "--depth", "1"])
        .arg(&image)
        .output()
        .unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["tree"]["below"][0]["name"], "big");
    assert_eq!(result["tree"]["layers"], json!([result["bytes"]]));
    assert!(result["tree"]["below"][1].get("below").is_none());
}
