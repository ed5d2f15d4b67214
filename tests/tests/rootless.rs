//! husk in the hands of an ordinary user, alone and with Podman.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::bundle::Bundle;
use tests::engine::{Engine, Kind, SCRATCH};
use tests::leaks::watched;
use tests::output::shell;
use tests::user::User;

#[test]
fn a_user_runs_a_bundle() -> Result<()> {
    watched(|| {
        let user = User::new()?;
        let bundle =
            Bundle::busybox()?.shell("id -u; stat -c %u /bin; echo made >/made; exit 7")?;
        user.own(bundle.path())?;
        let out = user.run(bundle.path(), "husk run one")?;
        ensure!(out.status.code() == Some(7), "{out:?}");
        ensure!(out.stdout == "0\n0\n", "{out:?}");
        let made = fs::metadata(bundle.path().join("rootfs/made"))?;
        ensure!(made.uid() == user.uid(), "made by {}", made.uid());
        Ok(())
    })
}

/// Each command prints what it did.
const LIFE: &str = r#"exec 2>&1
husk create one </dev/null >/dev/null 2>&1 || exit 9
husk state one | grep '"status"'
husk start one && husk exec one sh -c 'echo in; exit 3'
echo $?
husk exec -d one sleep 100 </dev/null >/dev/null 2>&1 && husk ps one | wc -l
ls $XDG_RUNTIME_DIR/husk | grep -v '^@'
husk pause one && husk resume one && husk kill one KILL
until husk state one | grep -q stopped; do sleep 0.1; done
husk delete one && husk list -q
"#;

const LIFE_SAYS: &str = "  \"status\": \"created\",\nin\n3\n3\none\n";

#[test]
fn every_command_is_a_users_too() -> Result<()> {
    watched(|| {
        let user = User::new()?;
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        user.own(bundle.path())?;
        let out = user.run(bundle.path(), LIFE)?;
        ensure!(out.stdout == LIFE_SAYS, "{}", out.stdout);
        Ok(())
    })
}

#[test]
fn what_a_user_cannot_have_is_refused_by_name() -> Result<()> {
    watched(|| {
        let user = User::new()?;
        let foreign = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let many = json!([{"containerID": 0, "hostID": user.uid(), "size": 65536}]);
        let limit = json!({"pids": {"limit": 10}});
        let hook = json!({"prestart": [{"path": "/bin/true"}]});
        for (pointer, value, text) in [
            (
                "/process/user",
                json!({"uid": 33, "gid": 0}),
                "process.user.uid",
            ),
            ("/linux/uidMappings", foreign, "linux.uidMappings[0]"),
            ("/linux/uidMappings", many, "linux.uidMappings[0]"),
            ("/linux/resources", limit, "rootless needs no limits"),
            ("/hooks", hook, "hooks.prestart"),
            ("/linux/cgroupsPath", json!("/husk-of-a-user"), "cgroup"),
        ] {
            let bundle = Bundle::busybox()?.set(pointer, value)?;
            user.own(bundle.path())?;
            let out = user.run(bundle.path(), "husk run one")?;
            ensure!(out.status.code() == Some(1), "{pointer}: {out:?}");
            ensure!(out.stderr.contains(text), "{pointer}: {out:?}");
            let left = shell(&format!("ls {}/husk", user.runtime_dir().display()))?;
            ensure!(left.stdout.is_empty(), "{left:?}");
        }
        Ok(())
    })
}

#[test]
fn a_mapping_of_ones_own_id_is_that_of_root() -> Result<()> {
    watched(|| {
        let user = User::new()?;
        let map = json!([{"containerID": 0, "hostID": user.uid(), "size": 1}]);
        let bundle = Bundle::busybox()?
            .shell("id -u; cat /proc/self/uid_map; stat -c %u /bin")?
            .set("/linux/uidMappings", map.clone())?
            .set("/linux/gidMappings", map)?;
        let mut namespaces = bundle.get("/linux/namespaces").cloned().unwrap_or_default();
        if let Some(list) = namespaces.as_array_mut() {
            list.push(json!({"type": "user"}));
        }
        // As in the spec that `spec --rootless` makes: group 5 is not the user's.
        let terminals = json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts"});
        let mounts = json!([{"destination": "/proc", "type": "proc", "source": "proc"}, terminals]);
        let bundle = bundle
            .set("/linux/namespaces", namespaces)?
            .set("/mounts", mounts)?;
        user.own(bundle.path())?;
        let out = user.run(bundle.path(), "husk run one")?;
        let words: Vec<_> = out.ok().split_whitespace().collect();
        ensure!(words == ["0", "0", "0", "1", "0"], "{out:?}");
        Ok(())
    })
}

/// The default network is slirp4netns's.
const PODMAN: &str = r#"podman="podman --runtime $RUNTIME"
$podman image exists box || $podman import -q /var/tmp/engines/box.tar box >/dev/null
$podman run --rm --network none -v $HOME/file:/file box sh -c 'id -u; cat /file; exit 4'
echo $?
$podman run -d --name one --user daemon box sleep 1000 >/dev/null
$podman exec one id -u
$podman exec one sh -c 'ls /sys/class/net | grep -v dummy'
$podman stop -t 0 one
$podman rm one
$podman ps -aq
podman system migrate
"#;

const PODMAN_SAYS: &str = "0\nmine\n4\n1\nlo\ntap0\none\none\n";

fn podman_with(runtime: &str) -> Result<()> {
    // For its image.
    let engine = Engine::start(Kind::Podman)?;
    let user = User::new()?;
    let home = std::path::Path::new("/var/tmp/husk-user");
    fs::write(home.join("file"), "mine\n")?;
    shell(&format!("chmod 755 {SCRATCH}"))?.ok();
    let out = user.run(home, &format!("RUNTIME={runtime}\n{PODMAN}"))?;
    ensure!(out.stdout == PODMAN_SAYS, "{out:?}");
    engine.clear()
}

#[test]
fn rootless_podman_runs_containers() -> Result<()> {
    podman_with("/usr/local/bin/husk")
}

#[test]
#[ignore = "takes minutes, and shows only that runc says the same"]
fn rootless_podman_says_the_same_with_runc() -> Result<()> {
    podman_with("runc")
}
