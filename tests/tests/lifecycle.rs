//! A container's life by runc's commands.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::bundle::Bundle;
use tests::husk::{self, Container, husk};
use tests::leaks::watched;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn run_prints_what_the_command_prints_and_exits_as_it_exits() -> Result<()> {
    watched(|| {
        let hello = husk::run(&Bundle::busybox()?.args(&["echo", "hello"])?)?;
        ensure!(
            hello.stdout == "hello\n" && hello.code() == 0 && hello.stderr.is_empty(),
            "{hello:?}"
        );
        let seven = husk::run(&Bundle::busybox()?.shell("echo oops >&2; exit 7")?)?;
        ensure!(
            seven.code() == 7 && seven.stderr == "oops\n" && seven.stdout.is_empty(),
            "{seven:?}"
        );
        Ok(())
    })
}

#[test]
fn the_container_has_a_kernel_of_its_own() -> Result<()> {
    watched(|| {
        let guest = husk::run(&Bundle::busybox()?.args(&["uname", "-r"])?)?;
        let host = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        ensure!(
            guest.ok().starts_with("6.12") && guest.ok() != host.trim(),
            "{guest:?}"
        );
        Ok(())
    })
}

#[test]
fn a_program_ended_by_a_signal_is_reported_as_128_plus_the_signal() -> Result<()> {
    watched(|| {
        let killed = husk::run(&Bundle::busybox()?.shell("kill -KILL $$")?)?;
        // The first process of a pid namespace is immune to its own SIGKILL: the shell's child is not.
        ensure!(killed.code() == 0, "{killed:?}");
        let child = husk::run(&Bundle::busybox()?.shell("sh -c 'kill -SEGV $$'; exit $?")?)?;
        ensure!(child.code() == 139, "{child:?}");
        Ok(())
    })
}

#[test]
fn create_start_kill_delete_go_through_the_states() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "100"])?;
        let container = Container::create(&bundle)?;
        ensure!(container.status()? == "created");
        ensure!(container.state()?["pid"] == json!(container.monitor()));
        container.verb("start", &[])?.ok();
        ensure!(container.status()? == "running");
        ensure!(container.verb("start", &[])?.code() == 1, "started twice");
        ensure!(
            container.verb("delete", &[])?.code() == 1,
            "deleted while running"
        );
        container.verb("kill", &["KILL"])?.ok();
        container.wait_for("stopped", SOON)?;
        ensure!(
            container.verb("kill", &["KILL"])?.code() == 1,
            "killed when stopped"
        );
        container.verb("delete", &[])?.ok();
        ensure!(
            container.verb("state", &[])?.code() == 1,
            "still there after delete"
        );
        Ok(())
    })
}

#[test]
fn a_term_signal_reaches_the_program() -> Result<()> {
    watched(|| {
        let trap = "trap 'echo got it > /root/proof; exit 3' TERM; touch /root/ready; while :; do sleep 0.1; done";
        let bundle = Bundle::busybox()?.shell(trap)?;
        let container = Container::running(&bundle)?;
        let file = |name: &str| bundle.path().join("rootfs/root").join(name);
        tests::output::until("the trap is set", SOON, || file("ready").exists())?;
        container.verb("kill", &["TERM"])?.ok();
        container.wait_for("stopped", SOON)?;
        ensure!(std::fs::read_to_string(file("proof"))? == "got it\n");
        Ok(())
    })
}

#[test]
fn a_paused_container_does_nothing_until_it_is_resumed() -> Result<()> {
    watched(|| {
        let bundle =
            Bundle::busybox()?.shell("while :; do echo >> /root/ticks; sleep 0.1; done")?;
        let container = Container::running(&bundle)?;
        let ticks = || {
            let file = bundle.path().join("rootfs/root/ticks");
            std::fs::metadata(file).map_or(0, |file| file.len())
        };
        tests::output::until("it ticks", SOON, || ticks() > 2)?;
        container.verb("pause", &[])?.ok();
        ensure!(container.status()? == "paused");
        let before = ticks();
        thread::sleep(Duration::from_secs(1));
        ensure!(ticks() == before, "it went on");
        let refused = container.exec(&["true"])?;
        ensure!(refused.code() == 255 && refused.stderr.contains("paused"));
        ensure!(container.verb("pause", &[])?.code() == 1, "paused twice");
        container.verb("resume", &[])?.ok();
        ensure!(container.status()? == "running");
        tests::output::until("it ticks again", SOON, || ticks() > before)?;
        ensure!(container.verb("resume", &[])?.code() == 1, "resumed twice");
        container.verb("pause", &[])?.ok();
        container.verb("kill", &["KILL"])?.ok();
        container.wait_for("stopped", SOON)?;
        Ok(())
    })
}

#[test]
fn exec_runs_beside_the_container_and_sees_it() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "100"])?;
        let container = Container::running(&bundle)?;
        let ps = container.exec(&["ps"])?;
        ensure!(ps.ok().contains("sleep 100"), "{ps:?}");
        ensure!(container.exec(&["sh", "-c", "exit 5"])?.code() == 5);
        ensure!(container.verb("exec", &["no-such-program"])?.code() == 255);
        let mut long = container.spawn_exec(&["sleep", "100"])?;
        container.exec(&["true"])?.ok();
        container.verb("kill", &["KILL"])?.ok();
        ensure!(
            tests::output::wait(&mut long, SOON)?.code() == Some(137),
            "exec outlives the container"
        );
        Ok(())
    })
}

#[test]
fn list_shows_what_there_is() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?;
        let container = Container::create(&bundle)?;
        let table = husk(&["list"])?;
        let header = table.ok().lines().next().unwrap_or_default().to_owned();
        let columns: Vec<&str> = header.split_whitespace().collect();
        ensure!(
            columns == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
            "{header}"
        );
        ensure!(table.ok().contains(container.id()));
        ensure!(
            husk(&["list", "--quiet"])?
                .ok()
                .lines()
                .any(|line| line == container.id())
        );
        let json = husk(&["list", "--format", "json"])?;
        let list: Vec<serde_json::Value> = serde_json::from_str(json.ok())?;
        ensure!(
            list.iter()
                .any(|entry| entry["id"] == json!(container.id())),
            "{json:?}"
        );
        Ok(())
    })
}

#[test]
fn delete_by_force_works_from_every_state_and_twice() -> Result<()> {
    watched(|| {
        let created_bundle = Bundle::busybox()?.args(&["sleep", "100"])?;
        let created = Container::create(&created_bundle)?;
        created.verb("delete", &["--force"])?.ok();
        created.verb("delete", &["--force"])?.ok();
        let running_bundle = Bundle::busybox()?.args(&["sleep", "100"])?;
        let running = Container::running(&running_bundle)?;
        running.verb("delete", &["--force"])?.ok();
        running.verb("delete", &["--force"])?.ok();
        Ok(())
    })
}

#[test]
fn bind_mounts_are_seen_and_read_only_ones_cannot_be_written() -> Result<()> {
    watched(|| {
        let dir = tempfile::TempDir::with_prefix("husk-volume-")?;
        std::fs::write(dir.path().join("file"), "from the host\n")?;
        let read = Bundle::busybox()?.bind(dir.path(), "/mnt", &["ro"])?;
        let out =
            husk::run(&read.shell("cat /mnt/file; touch /mnt/x 2>/dev/null || echo refused")?)?;
        ensure!(out.ok() == "from the host\nrefused", "{out:?}");
        let write = Bundle::busybox()?.bind(dir.path(), "/mnt", &[])?;
        husk::run(&write.shell("echo from the guest > /mnt/file")?)?.ok();
        ensure!(std::fs::read_to_string(dir.path().join("file"))? == "from the guest\n");
        let file = Bundle::busybox()?.bind(&dir.path().join("file"), "/etc/one", &["ro"])?;
        ensure!(husk::run(&file.args(&["cat", "/etc/one"])?)?.ok() == "from the guest");
        Ok(())
    })
}
