//! The host's cgroup of a container, and its limits: what holds, what engines see of it, and that nothing of it stays.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::bundle::Bundle;
use tests::husk::{Container, husk, run, unique_id};
use tests::leaks::watched;
use tests::output;

const ROOT: &str = "/sys/fs/cgroup";

/// A group of its own for each test, with its parent. The parent stays when a container is deleted, as with runc.
struct Parent(PathBuf);

impl Parent {
    fn new() -> Result<Self> {
        let path = Path::new(ROOT).join(format!("husk-tests-{}", unique_id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// `linux.cgroupsPath` of a child.
    fn child(&self, name: &str) -> Result<(String, PathBuf)> {
        let path = self.0.join(name);
        let spec = Path::new("/").join(path.strip_prefix(ROOT)?);
        Ok((spec.display().to_string(), path))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // A child that is left keeps it, and the leak check tells of both.
        let _outcome = fs::remove_dir(&self.0);
    }
}

fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}

fn pids(dir: &Path) -> Result<Vec<i32>> {
    let list = read(dir, "cgroup.procs")?;
    Ok(list.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// Programs in it, without the kernel's own threads: KVM has one for each machine.
fn names(dir: &Path) -> Result<Vec<String>> {
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm"));
    let mut names = pids(dir)?
        .into_iter()
        .map(|pid| Ok(name(pid)?.trim().to_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.retain(|name| !name.starts_with("kvm-"));
    names.sort();
    Ok(names)
}

#[test]
fn machine_and_monitors_are_in_the_cgroup_that_the_spec_names() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        let bundle = Bundle::busybox()?
            .args(&["sleep", "1000"])?
            .set("/linux/cgroupsPath", json!(path))?;
        let container = Container::running(&bundle)?;
        ensure!(pids(&dir)?.contains(&container.monitor()));
        ensure!(names(&dir)? == ["husk", "husk-vmm"], "{:?}", names(&dir)?);
        // Its monitor keeps the streams: nobody could wait for the end of a pipe.
        let detached = Command::new("husk")
            .args(["exec", "--detach", container.id(), "sleep", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure!(detached.success(), "{detached:?}");
        ensure!(names(&dir)? == ["husk", "husk", "husk-vmm"]);
        ensure!(container.exec(&["true"])?.status.success());
        let used: u64 = read(&dir, "memory.current")?.parse()?;
        ensure!(used > 16 << 20, "a machine that uses {used} bytes");
        container.verb("kill", &["KILL"])?.ok();
        container.wait_for("stopped", output::LIMIT)?;
        container.verb("delete", &[])?.ok();
        ensure!(!dir.exists());
        Ok(())
    })
}

#[test]
fn in_the_foreground_only_the_machine_is() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        let bundle = Bundle::busybox()?
            .shell("read line")?
            .set("/linux/cgroupsPath", json!(path))?;
        let mut run = Command::new("husk")
            .args(["run", &unique_id()])
            .current_dir(bundle.path())
            .stdin(Stdio::piped())
            .spawn()?;
        output::until("the machine is in its cgroup", output::LIMIT, || {
            names(&dir).is_ok_and(|names| names == ["husk-vmm"])
        })?;
        drop(run.stdin.take());
        output::wait(&mut run, output::LIMIT)?;
        ensure!(!dir.exists());
        Ok(())
    })
}

#[test]
fn limits_of_the_spec_are_those_of_the_host_with_room_for_the_machine() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        let resources = json!({
            "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 50},
        });
        let bundle = Bundle::busybox()?
            .args(&["sleep", "1000"])?
            .set("/linux/cgroupsPath", json!(path))?
            .set("/linux/resources", resources)?;
        let container = Container::running(&bundle)?;
        for (file, expected) in [
            ("memory.max", "671088640"),
            ("memory.swap.max", "4096"),
            ("memory.low", "33554432"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "178"),
        ] {
            let is = read(&dir, file);
            // A kernel may be without swap.
            if file != "memory.swap.max" || dir.join(file).exists() {
                ensure!(is.as_deref().ok() == Some(expected), "{file}: {is:?}");
            }
        }
        let guest = |file: &str| -> Result<String> {
            let line = format!("cat /sys/fs/cgroup/{file}");
            Ok(container.exec(&["sh", "-c", &line])?.ok().trim().to_owned())
        };
        ensure!(guest("memory.max")? == "67108864");
        ensure!(guest("cpu.max")? == "50000 100000");
        ensure!(guest("pids.max")? == "50");
        Ok(())
    })
}

#[test]
fn a_failed_create_leaves_no_cgroup() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        // A device that does not exist cannot be throttled.
        let throttle =
            json!({"throttleReadBpsDevice": [{"major": 250, "minor": 77, "rate": 1000}]});
        let bundle = Bundle::busybox()?
            .set("/linux/cgroupsPath", json!(path))?
            .set("/linux/resources", json!({"blockIO": throttle}))?;
        let out = run(&bundle)?;
        ensure!(out.status.code() == Some(1), "{out:?}");
        ensure!(out.stderr.contains("unable to limit cgroup"), "{out:?}");
        let out = husk(&[
            "create",
            "-b",
            &bundle.path().display().to_string(),
            &unique_id(),
        ])?;
        ensure!(out.status.code() == Some(1), "{out:?}");
        ensure!(!dir.exists());
        Ok(())
    })
}

#[test]
fn somebody_elses_cgroup_is_refused() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        fs::create_dir(&dir)?;
        let mut sleep = Command::new("sleep").arg("1000").spawn()?;
        fs::write(dir.join("cgroup.procs"), sleep.id().to_string())?;
        let bundle = Bundle::busybox()?.set("/linux/cgroupsPath", json!(path))?;
        let out = run(&bundle)?;
        ensure!(out.status.code() == Some(1), "{out:?}");
        ensure!(
            out.stderr.contains("is not empty: 1 process(es) found"),
            "{out:?}"
        );
        let alive = sleep.try_wait()?.is_none();
        sleep.kill()?;
        sleep.wait()?;
        ensure!(alive, "the other process was ended");
        output::until("the cgroup is empty", Duration::from_secs(10), || {
            fs::remove_dir(&dir).is_ok()
        })?;
        Ok(())
    })
}

#[test]
fn a_fork_bomb_stays_in_its_container() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?
            .shell("for i in $(seq 100); do sleep 5 & done; wait")?
            .set("/linux/resources", json!({"pids": {"limit": 20}}))?;
        let out = run(&bundle)?;
        ensure!(out.stderr.contains("can't fork"), "{out:?}");
        Ok(())
    })
}

#[test]
fn an_update_reaches_guest_and_host() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        let bundle = Bundle::busybox()?
            .args(&["sleep", "1000"])?
            .set("/linux/cgroupsPath", json!(path))?
            .set("/linux/resources", json!({"memory": {"limit": 64 << 20}}))?;
        let container = Container::running(&bundle)?;
        let limits = [
            "--cpu-period",
            "100000",
            "--cpu-quota",
            "30000",
            "--pids-limit",
            "40",
        ];
        let update = [
            &["update", "--memory", "48M"],
            &limits[..],
            &[container.id()],
        ]
        .concat();
        husk(&update)?.ok();
        ensure!(read(&dir, "cpu.max")? == "30000 100000");
        ensure!(read(&dir, "pids.max")? == "168");
        let guest = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";
        let out = container.exec(&["sh", "-c", guest])?;
        ensure!(
            out.ok().trim_end() == "50331648\n30000 100000\n40",
            "{out:?}"
        );
        Ok(())
    })
}

#[test]
fn a_hog_of_processor_time_gets_its_share() -> Result<()> {
    watched(|| {
        let parent = Parent::new()?;
        let (path, dir) = parent.child("box")?;
        let resources = json!({"cpu": {"quota": 20_000, "period": 100_000}});
        let bundle = Bundle::busybox()?
            .shell("while :; do :; done")?
            .set("/linux/cgroupsPath", json!(path))?
            .set("/linux/resources", resources)?;
        let _container = Container::running(&bundle)?;
        let used = || -> Result<u64> {
            let stat = read(&dir, "cpu.stat")?;
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "));
            Ok(line.context("no usage_usec")?.parse()?)
        };
        let (start, before) = (Instant::now(), used()?);
        std::thread::sleep(Duration::from_secs(4));
        let (used, elapsed) = (used()? - before, start.elapsed().as_micros());
        let percent = u128::from(used) * 100 / elapsed;
        ensure!((10..30).contains(&percent), "{percent} %");
        Ok(())
    })
}

#[test]
fn events_tell_of_use_and_of_oom_kills() -> Result<()> {
    watched(|| {
        let hog = "read go </tmp/go; dd if=/dev/zero of=/dev/null bs=100M count=1; sleep 1000";
        let bundle = Bundle::busybox()?
            .shell(&format!("mkfifo /tmp/go; {hog}"))?
            .set("/linux/resources", json!({"memory": {"limit": 64 << 20}}))?;
        let container = Container::running(&bundle)?;
        let stats = husk(&["events", "--stats", container.id()])?;
        let stats: serde_json::Value = serde_json::from_str(stats.ok())?;
        ensure!(
            stats["type"] == "stats" && stats["id"] == container.id(),
            "{stats}"
        );
        ensure!(
            stats["data"]["memory"]["usage"]["limit"] == 64 << 20,
            "{stats}"
        );
        let mut events = Command::new("husk")
            .args(["events", "--interval", "1s", container.id()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(events.stdout.take().context("no output")?).lines();
        let first = lines.next().context("no event")??;
        ensure!(first.starts_with("{\"type\":\"stats\""), "{first}");
        container.exec(&["sh", "-c", "echo go >/tmp/go"])?.ok();
        let oom = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", container.id());
        let told = lines
            .take(120)
            .any(|line| line.is_ok_and(|line| line == oom));
        events.kill()?;
        events.wait()?;
        ensure!(told, "no OOM kill was told of");
        Ok(())
    })
}
