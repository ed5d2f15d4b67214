//! Several containers in one machine: joined by the paths of their namespaces, or by what their annotations say.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::husk::{self, Container, kill, runs};
use tests::leaks::watched;
use tests::output::until;

const SOON: Duration = Duration::from_secs(20);

/// The machine that a process of a container is in.
const MACHINE: &str = "/proc/sys/kernel/random/boot_id";

/// A namespace of `husk spec`'s config, by what a bundle says of it.
fn shared(container: &Container<'_>, kinds: &[&str]) -> Value {
    let all = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let entry = |kind: &&str| match (kinds.contains(kind), *kind) {
        (false, _) => json!({"type": kind}),
        (true, kind) => {
            let file = if kind == "network" { "net" } else { kind };
            let path = format!("/proc/{}/ns/{file}", container.monitor());
            json!({"type": kind, "path": path})
        }
    };
    all.iter().map(entry).collect()
}

/// A container with a program that never ends.
fn sleeper() -> Result<Bundle> {
    Bundle::busybox()?.args(&["sleep", "1000"])
}

/// One that shares namespaces with another.
fn beside(container: &Container<'_>, kinds: &[&str]) -> Result<Bundle> {
    sleeper()?.set("/linux/namespaces", shared(container, kinds))
}

/// What a container is in: its machine, or a namespace.
fn of(container: &Container<'_>, what: &str) -> Result<String> {
    let out = match what {
        MACHINE => container.exec(&["cat", what])?,
        kind => container.exec(&["readlink", &format!("/proc/self/ns/{kind}")])?,
    };
    Ok(out.ok().to_owned())
}

/// The shares that a machine has.
fn shares(vmm: i32) -> Result<Vec<String>> {
    let dir = PathBuf::from(format!("/proc/{vmm}/root/shares"));
    let names = std::fs::read_dir(dir)?.map(|entry| {
        let name = entry?.file_name().into_string();
        name.ok().context("a name that is no text")
    });
    names.collect()
}

#[test]
fn containers_share_the_namespaces_whose_paths_they_are_given() -> Result<()> {
    watched(|| {
        let serve = "while :; do echo from the first | nc -l -p 4000; done";
        let first = Bundle::busybox()?.shell(serve)?;
        let first = Container::running(&first)?;
        let second = beside(&first, &["network", "ipc", "uts", "pid"])?;
        let second = Container::running(&second)?;
        ensure!(first.vmm()? == second.vmm()?, "two machines");
        for kind in [MACHINE, "net", "ipc", "uts", "pid"] {
            ensure!(of(&first, kind)? == of(&second, kind)?, "{kind} differs");
        }
        for kind in ["mnt", "cgroup"] {
            ensure!(of(&first, kind)? != of(&second, kind)?, "{kind} is shared");
        }
        let heard = second.exec(&["sh", "-c", "nc 127.0.0.1 4000 < /dev/null"])?;
        ensure!(heard.ok() == "from the first", "{heard:?}");
        let seen = first.exec(&["ps"])?;
        ensure!(seen.ok().contains("sleep 1000"), "{seen:?}");
        // Its program was the first process of the shared pid namespace: all others end with it.
        first.verb("kill", &["KILL"])?.ok();
        first.wait_for("stopped", SOON)?;
        second.wait_for("stopped", SOON)?;
        Ok(())
    })
}

#[test]
fn a_machine_lives_as_long_as_any_of_its_containers() -> Result<()> {
    watched(|| {
        let volume = tempfile::TempDir::with_prefix("husk-volume-")?;
        std::fs::write(volume.path().join("file"), "from the host\n")?;
        let first = sleeper()?;
        let first = Container::running(&first)?;
        let vmm = first.vmm()?;
        let second = beside(&first, &["ipc"])?.bind(volume.path(), "/mnt", &["ro"])?;
        let second = Container::running(&second)?;
        let third = beside(&second, &["network"])?;
        let third = Container::create(&third)?;
        ensure!(of(&second, "net")? != of(&first, "net")?);
        ensure!(second.exec(&["cat", "/mnt/file"])?.ok() == "from the host");
        // The one that the machine was made for leaves first.
        first.verb("kill", &["KILL"])?.ok();
        first.wait_for("stopped", SOON)?;
        first.verb("delete", &[])?.ok();
        ensure!(second.exec(&["cat", "/mnt/file"])?.ok() == "from the host");
        let left = shares(vmm)?;
        ensure!(
            !left
                .iter()
                .any(|share| share.starts_with(&format!("{}-", first.id()))),
            "{left:?}"
        );
        third.verb("start", &[])?.ok();
        ensure!(of(&third, MACHINE)? == of(&second, MACHINE)?);
        second.verb("delete", &["--force"])?.ok();
        let left = shares(vmm)?;
        ensure!(left == [format!("{}-rootfs", third.id())], "{left:?}");
        third.exec(&["true"])?.ok();
        third.verb("kill", &["KILL"])?.ok();
        until("the machine ends", SOON, || !runs(vmm))?;
        Ok(())
    })
}

#[test]
fn the_end_of_one_monitor_is_that_of_its_container_alone() -> Result<()> {
    watched(|| {
        let first = sleeper()?;
        let first = Container::running(&first)?;
        let (second, third) = (beside(&first, &["ipc"])?, beside(&first, &["uts"])?);
        let second = Container::running(&second)?;
        let third = Container::running(&third)?;
        let cgroups = "ls /sys/fs/cgroup";
        ensure!(third.exec(&["sh", "-c", cgroups])?.code() == 0);
        // The machine was started by this one, and it has nobody to tell.
        kill(first.monitor())?;
        first.wait_for("stopped", SOON)?;
        kill(second.monitor())?;
        second.wait_for("stopped", SOON)?;
        third.exec(&["true"])?.ok();
        first.verb("delete", &[])?.ok();
        second.verb("delete", &["--force"])?.ok();
        third.exec(&["true"])?.ok();
        let vmm = third.vmm()?;
        kill(third.monitor())?;
        until("the machine ends", SOON, || !runs(vmm))?;
        Ok(())
    })
}

#[test]
fn the_end_of_the_machine_is_that_of_all_its_containers_within_a_second() -> Result<()> {
    watched(|| {
        let first = sleeper()?;
        let first = Container::running(&first)?;
        let second = beside(&first, &["ipc"])?;
        let second = Container::running(&second)?;
        let mut exec = second.spawn_exec(&["sleep", "1000"])?;
        second.exec(&["true"])?.ok();
        let killed = Instant::now();
        kill(first.vmm()?)?;
        let monitors = [first.monitor(), second.monitor()];
        until("the monitors end", SOON, || {
            !monitors.iter().any(|pid| runs(*pid))
        })?;
        let took = killed.elapsed();
        ensure!(took <= Duration::from_secs(1), "took {took:?}");
        ensure!(tests::output::wait(&mut exec, SOON)?.code() == Some(137));
        for container in [&first, &second] {
            let exit = std::fs::read(format!("/run/husk/{}/exit.json", container.id()))?;
            let exit: Value = serde_json::from_slice(&exit)?;
            ensure!(exit["code"] == 137, "{exit}");
            container.verb("delete", &[])?.ok();
        }
        Ok(())
    })
}

#[test]
fn annotations_of_kubernetes_name_the_sandbox() -> Result<()> {
    watched(|| {
        let pause = sleeper()?.set(
            "/annotations",
            json!({
                "io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-memory": "402653184",
            }),
        )?;
        let pause = Container::running(&pause)?;
        let member = |kind: &str, key: &str, id: &str| {
            let annotations = json!({kind: "container", key: id});
            sleeper()?.set("/annotations", annotations)
        };
        let (kind, key) = (
            "io.kubernetes.cri.container-type",
            "io.kubernetes.cri.sandbox-id",
        );
        let containerd = member(kind, key, pause.id())?;
        let containerd = Container::running(&containerd)?;
        let crio = member(
            "io.kubernetes.cri-o.ContainerType",
            "io.kubernetes.cri-o.SandboxID",
            pause.id(),
        )?;
        let crio = Container::running(&crio)?;
        for container in [&containerd, &crio] {
            ensure!(container.vmm()? == pause.vmm()?, "two machines");
        }
        let memory = containerd.exec(&["grep", "MemTotal", "/proc/meminfo"])?;
        let kib: u64 = memory
            .ok()
            .split_whitespace()
            .nth(1)
            .context("no number")?
            .parse()?;
        ensure!((400_000..460_000).contains(&kib), "{memory:?}");
        for (id, named) in [("nobody", "nobody"), ("../x", "sandbox-id")] {
            let refused = husk::run(&member(kind, key, id)?)?;
            ensure!(refused.fails_with(1).contains(named), "{refused:?}");
        }
        Ok(())
    })
}

#[test]
fn what_cannot_be_joined_is_refused_by_name() -> Result<()> {
    watched(|| {
        let first = sleeper()?;
        let first = Container::running(&first)?;
        let second = sleeper()?;
        let second = Container::running(&second)?;
        let mut mixed = shared(&first, &["ipc"]);
        mixed[3] = shared(&second, &["uts"])[3].clone();
        let refused = husk::run(&sleeper()?.set("/linux/namespaces", mixed)?)?;
        let text = refused.fails_with(1);
        ensure!(
            text.contains("linux.namespaces[3]")
                && text.contains(first.id())
                && text.contains(second.id()),
            "{text}"
        );
        let mut mounts = shared(&first, &[]);
        mounts[4] = json!({"type": "mount", "path": format!("/proc/{}/ns/mnt", first.monitor())});
        let refused = husk::run(&sleeper()?.set("/linux/namespaces", mounts)?)?;
        ensure!(
            refused.fails_with(1).contains("linux.namespaces[4]"),
            "{refused:?}"
        );
        let gone = beside(&second, &["ipc"])?;
        second.verb("delete", &["--force"])?.ok();
        let refused = husk::run(&gone)?;
        ensure!(
            refused.fails_with(1).contains("linux.namespaces[2]"),
            "{refused:?}"
        );
        // What failed has left nothing in the machine that it was to join.
        let bad = beside(&first, &["ipc"])?.args(&["/no/such/program"])?;
        let refused = husk::run(&bad)?;
        ensure!(
            refused.fails_with(1).contains("no such file or directory"),
            "{refused:?}"
        );
        ensure!(shares(first.vmm()?)? == [format!("{}-rootfs", first.id())]);
        first.exec(&["true"])?.ok();
        Ok(())
    })
}
