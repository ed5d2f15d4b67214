//! The leak check finds one planted leak of each kind.

use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use anyhow::{Result, bail, ensure};
use tests::leaks::{Snapshot, watched};
use tests::output;

fn shell(line: &str) -> Result<()> {
    let done = output::run(Command::new("sh").args(["-c", line]), b"")?;
    ensure!(done.status.success(), "{line}: {done:?}");
    Ok(())
}

/// Plants something, checks that the check names it as `kind`, and takes it away again.
fn finds(kind: &str, plant: &str, remove: &str) -> Result<()> {
    let mut before = Snapshot::take()?;
    shell(plant)?;
    let leaks = before.leaks()?;
    shell(remove)?;
    ensure!(
        leaks.iter().any(|leak| leak.kind == kind),
        "{plant}: not found as {kind}: {leaks:?}"
    );
    Ok(())
}

#[test]
fn a_mount_is_found() -> Result<()> {
    finds(
        "mount",
        "mkdir /run/plant && mount -t tmpfs plant /run/plant",
        "umount /run/plant && rmdir /run/plant",
    )
}

#[test]
fn a_network_interface_is_found() -> Result<()> {
    finds(
        "network interface",
        "ip tuntap add plant0 mode tap",
        "ip tuntap del plant0 mode tap",
    )
}

#[test]
fn a_cgroup_is_found() -> Result<()> {
    finds(
        "cgroup",
        "mkdir /sys/fs/cgroup/plant",
        "rmdir /sys/fs/cgroup/plant",
    )
}

#[test]
fn a_state_file_is_found() -> Result<()> {
    finds(
        "file",
        "mkdir -p /run/husk/plant && touch /run/husk/plant/state.json",
        "rm -r /run/husk/plant",
    )
}

#[test]
fn a_kernel_message_is_found() -> Result<()> {
    finds(
        "kernel message",
        "echo 'plant: unhandled rdmsr' > /dev/kmsg",
        "true",
    )
}

#[test]
fn a_socket_is_found() -> Result<()> {
    let mut before = Snapshot::take()?;
    let listener = UnixListener::bind("/run/plant.sock")?;
    let leaks = before.leaks()?;
    drop(listener);
    std::fs::remove_file("/run/plant.sock")?;
    ensure!(
        leaks.iter().any(|leak| leak.kind == "unix socket"),
        "{leaks:?}"
    );
    Ok(())
}

#[test]
fn a_process_and_its_threads_and_files_are_found() -> Result<()> {
    let mut before = Snapshot::take()?;
    let mut planted = Planted(Command::new("sleep").arg("60").spawn()?);
    let leaks = before.leaks()?;
    planted.0.kill()?;
    planted.0.wait()?;
    for kind in ["process", "thread", "open file"] {
        ensure!(
            leaks.iter().any(|leak| leak.kind == kind),
            "{kind}: {leaks:?}"
        );
    }
    Ok(())
}

#[test]
fn nothing_is_found_where_nothing_is_left() -> Result<()> {
    let mut before = Snapshot::take()?;
    shell("true")?;
    let leaks = before.leaks()?;
    ensure!(leaks.is_empty(), "{leaks:?}");
    Ok(())
}

/// A test that fails and leaves a state file behind tells of both.
fn tells_of_both(test: impl FnOnce() -> Result<()>) -> Result<()> {
    let told = watched(|| {
        shell("mkdir -p /run/husk && touch /run/husk/plant")?;
        test()
    });
    shell("rm /run/husk/plant")?;
    let Err(error) = told else {
        bail!("neither the failure nor the leak is told");
    };
    let text = format!("{error:#}");
    ensure!(
        text.contains("/run/husk/plant") && text.contains("the test's own end"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_failure_does_not_hide_a_leak_nor_a_leak_a_failure() -> Result<()> {
    tells_of_both(|| bail!("the test's own end"))
}

#[test]
fn a_panic_does_not_hide_a_leak_nor_a_leak_a_panic() -> Result<()> {
    tells_of_both(|| panic!("the test's own end"))
}

#[test]
fn a_leak_fails_a_test_that_passes() -> Result<()> {
    let told = watched(|| shell("mkdir -p /run/husk && touch /run/husk/plant"));
    shell("rm /run/husk/plant")?;
    ensure!(told.is_err(), "the leak is not told");
    Ok(())
}

struct Planted(Child);

impl Drop for Planted {
    fn drop(&mut self) {
        // Already dead unless the test failed half-way.
        let _outcome = self.0.kill();
    }
}
