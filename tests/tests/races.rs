//! Many commands at once, on one container and on many; and state directories that are damaged or cannot be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::bundle::Bundle;
use tests::husk::{Container, husk};
use tests::leaks::watched;
use tests::output::{self, LIMIT};

const CROWD: usize = 64;

/// Runs all of the command lines at once; returns how many of them succeed. None may hang.
fn at_once(lines: &[Vec<&str>]) -> Result<usize> {
    let start = |line: &Vec<&str>| {
        let mut command = Command::new("husk");
        command
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.stderr(Stdio::null()).spawn()
    };
    let children = lines.iter().map(start).collect::<std::io::Result<Vec<_>>>();
    let mut succeeded = 0;
    for child in &mut children? {
        succeeded += usize::from(output::wait(child, LIMIT)?.success());
    }
    Ok(succeeded)
}

fn crowd(line: &[&str]) -> Result<usize> {
    at_once(&vec![line.to_vec(); CROWD])
}

#[test]
fn of_sixty_four_commands_on_one_container_one_wins() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let path = bundle.path().to_str().context("not UTF-8")?;
        let won = crowd(&["create", "--bundle", path, "one-id"])?;
        ensure!(won == 1, "{won} creates won");
        let won = crowd(&["start", "one-id"])?;
        ensure!(won == 1, "{won} starts won");
        let won = crowd(&["pause", "one-id"])?;
        ensure!(won == 1, "{won} pauses won");
        let won = crowd(&["resume", "one-id"])?;
        ensure!(won == 1, "{won} resumes won");
        // A signal may reach a process that another one is just ending; at least one does.
        let won = crowd(&["kill", "one-id", "KILL"])?;
        ensure!(won >= 1, "no kill won");
        let stopped =
            || husk(&["state", "one-id"]).is_ok_and(|state| state.stdout.contains("\"stopped\""));
        output::until("it stops", LIMIT, stopped)?;
        let won = crowd(&["delete", "one-id"])?;
        ensure!(won == 1, "{won} deletes won");
        Ok(())
    })
}

#[test]
fn a_crowd_of_different_commands_on_one_id_ends_without_a_deadlock() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let path = bundle.path().to_str().context("not UTF-8")?;
        let verbs: [&[&str]; 8] = [
            &["create", "--bundle", path, "mixed"],
            &["start", "mixed"],
            &["kill", "mixed", "KILL"],
            &["delete", "mixed"],
            &["delete", "--force", "mixed"],
            &["pause", "mixed"],
            &["resume", "mixed"],
            &["state", "mixed"],
        ];
        let lines: Vec<_> = (0..CROWD)
            .map(|number| verbs[number % verbs.len()].to_vec())
            .collect();
        // Which of them succeed is chance.
        at_once(&lines)?;
        husk(&["delete", "--force", "mixed"])?.ok();
        Ok(())
    })
}

/// The machines of 64 containers at once are more than the testbed's emulator starts: these fail before they start one.
#[test]
fn sixty_four_creates_that_fail_leave_nothing() -> Result<()> {
    watched(|| {
        let hook = json!({"createRuntime": [{"path": "/bin/false"}]});
        let bundle = Bundle::busybox()?.set("/hooks", hook)?;
        let path = bundle.path().to_str().context("not UTF-8")?;
        let ids: Vec<String> = (0..CROWD).map(|number| format!("many-{number}")).collect();
        let lines: Vec<_> = ids
            .iter()
            .map(|id| vec!["create", "--bundle", path, id])
            .collect();
        ensure!(at_once(&lines)? == 0, "a create succeeded");
        let lines: Vec<_> = ids.iter().map(|id| vec!["delete", id]).collect();
        ensure!(at_once(&lines)? == 0, "something was left");
        let left = husk(&["list"])?;
        ensure!(left.ok().lines().count() == 1, "{left:?}");
        Ok(())
    })
}

#[test]
fn damaged_state_is_told_and_deleted_by_force_only() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        let file = Path::new("/run/husk")
            .join(container.id())
            .join("state.json");
        let whole = fs::read(&file)?;
        let mut other_version: serde_json::Value = serde_json::from_slice(&whole)?;
        other_version["version"] = json!(99);
        let other_version = other_version.to_string();
        for bytes in [
            &b""[..],
            &whole[..whole.len() / 2],
            b"\xff\x00",
            b"[]",
            other_version.as_bytes(),
        ] {
            fs::write(&file, bytes)?;
            for verb in [
                "state", "start", "kill", "delete", "pause", "resume", "ps", "events",
            ] {
                let said = container.verb(verb, &[])?;
                ensure!(
                    said.fails_with(1).contains("state.json"),
                    "{verb}: {said:?}"
                );
            }
            ensure!(!husk(&["list", "--quiet"])?.ok().contains(container.id()));
        }
        fs::write(&file, &whole)?;
        ensure!(
            container.status()? == "running",
            "the container did not live on"
        );
        fs::write(&file, b"")?;
        container.verb("delete", &["--force"])?.ok();
        ensure!(!file.exists());
        ensure!(!tests::husk::runs(container.monitor()), "the monitor lives");
        // Only the record knew of it; the machine, whose end nobody waits for without a record, may still be in it.
        let cgroup = Path::new("/sys/fs/cgroup").join(container.id());
        output::until("the cgroup is empty", LIMIT, || {
            fs::remove_dir(&cgroup).is_ok()
        })?;
        Ok(())
    })
}

#[test]
fn a_record_of_processes_that_are_gone_is_a_stopped_container() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        tests::husk::kill(container.monitor())?;
        container.wait_for("stopped", LIMIT)?;
        // The pid belongs to another process by now, as it may after a while.
        let file = Path::new("/run/husk")
            .join(container.id())
            .join("state.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
        record["monitor"]["pid"] = json!(std::process::id());
        fs::write(&file, serde_json::to_vec(&record)?)?;
        ensure!(container.status()? == "stopped");
        container.verb("kill", &["KILL"])?.fails_with(1);
        container.verb("delete", &[])?.ok();
        Ok(())
    })
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() -> Result<()> {
    watched(|| {
        let dir = tempfile::tempdir()?;
        let mount = |options: &str| {
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(dir.path());
            output::run(&mut mount, b"")
        };
        mount("ro")?.ok();
        let root = dir.path().to_str().context("not UTF-8")?;
        let bundle = Bundle::busybox()?.args(&["true"])?;
        let path = bundle.path().to_str().context("not UTF-8")?;
        let said = husk(&["--root", root, "run", "--bundle", path, "read-only"]);
        let unmounted = output::run(Command::new("umount").arg(dir.path()), b"")?;
        ensure!(said?.fails_with(1).contains(root));
        unmounted.ok();
        // Two pages are enough for the state, not for the machine's files: out of space in the middle.
        mount("size=8k")?.ok();
        let said = husk(&["--root", root, "run", "--bundle", path, "full"]);
        let left = fs::read_dir(dir.path())?.count();
        output::run(Command::new("umount").arg(dir.path()), b"")?.ok();
        said?.fails_with(1);
        ensure!(left == 0, "{left} entries are left");
        Ok(())
    })
}

/// The least memory that a machine has.
fn small() -> Result<Bundle> {
    let memory = json!({"memory": {"limit": 64 << 20}});
    Bundle::busybox()?
        .args(&["sleep", "1000"])?
        .set("/linux/resources", memory)
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn three_hundred_containers_one_after_the_other_leave_nothing() -> Result<()> {
    watched(|| {
        let bundle = small()?.args(&["true"])?;
        for number in 0..300 {
            let done = tests::husk::run(&bundle).with_context(|| format!("container {number}"))?;
            done.ok();
        }
        Ok(())
    })
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn twenty_containers_at_once_leave_nothing() -> Result<()> {
    watched(|| {
        let bundle = small()?;
        // Started one after the other: the testbed's emulator does not start many machines at once.
        let containers = (0..20)
            .map(|_| Container::running(&bundle))
            .collect::<Result<Vec<_>>>()?;
        for container in &containers {
            container.exec(&["true"])?.ok();
        }
        let ids: Vec<_> = containers
            .iter()
            .map(|one| vec!["delete", "--force", one.id()])
            .collect();
        ensure!(at_once(&ids)? == containers.len(), "not all are deleted");
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    })
}
