//! Pods as Podman makes them, and namespaces that Docker shares.

use anyhow::{Result, ensure};
use tests::engine::{Engine, Kind};

/// Ends with how many machines run. Without a cgroup of the pod: Podman 4.3's denies every device to whom is in it where there
/// is no systemd, and runc fails in it, too.
const POD: &str = r#"
podman="podman --runtime $RUNTIME"
$podman pod create --name pod --share-parent=false --network none --infra-image box --infra-command 'sleep 1000' >/dev/null
$podman run -d --pod pod --name one box sh -c 'while :; do echo from one | nc -l -p 4000; done' >/dev/null
$podman run -d --pod pod --name two box sleep 1000 >/dev/null
$podman run --rm --pod pod box sh -c 'nc 127.0.0.1 4000 </dev/null; hostname'
pgrep -c husk-vmm
$podman kill one
$podman wait one
$podman exec two echo two goes on
$podman pod stop -t 0 pod >/dev/null 2>&1
pgrep -c husk-vmm
$podman pod start pod >/dev/null
$podman exec two echo two is back
$podman pod kill pod >/dev/null
$podman pod rm -f pod >/dev/null
husk list -q
pgrep -c husk-vmm
"#;

const POD_SAYS: &str = "from one\npod\n1\none\n137\ntwo goes on\n0\ntwo is back\n0";

#[test]
fn podman_makes_a_pod_of_three_containers_that_share_localhost() -> Result<()> {
    let engine = Engine::start(Kind::Podman)?;
    let out = engine.run("/usr/local/bin/husk", POD)?;
    engine.clear()?;
    ensure!(out.stdout.trim_end() == POD_SAYS, "{}", out.stdout);
    Ok(())
}

/// The shim kills all that is in the container's processes when its first one has ended, since it takes them for its own.
const SHARED_PID: &str = r#"
engine run -d --name one box sleep 1000 >/dev/null
for code in 3 0 5; do
    engine run --rm --pid container:one box sh -c "ps -o args | grep -c 'sleep 1000$'; exit $code"
    echo $?
done
engine exec one echo one goes on
"#;

const SHARED_PID_SAYS: &str = "1\n3\n1\n0\n1\n5\none goes on";

#[test]
fn docker_lets_a_container_see_anothers_processes_and_end() -> Result<()> {
    let engine = Engine::start(Kind::Docker)?;
    for runtime in ["runc", "/usr/local/bin/husk"] {
        let out = engine.run(runtime, SHARED_PID)?;
        engine.clear()?;
        ensure!(
            out.stdout.trim_end() == SHARED_PID_SAYS,
            "{runtime}: {}",
            out.stdout
        );
    }
    Ok(())
}
