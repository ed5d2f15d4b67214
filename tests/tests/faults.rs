//! Things end badly, and nothing is left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::bundle::Bundle;
use tests::husk::{Container, kill};
use tests::leaks::watched;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_death_of_the_vmm_is_reported_as_137_within_a_second() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        let mut exec = container.spawn_exec(&["sleep", "1000"])?;
        container.exec(&["true"])?.ok();
        kill(container.vmm()?)?;
        let noticed =
            tests::output::until("exec ends", SOON, || matches!(exec.try_wait(), Ok(Some(_))))?;
        ensure!(exec.wait()?.code() == Some(137));
        let stopped = container.wait_for("stopped", SOON)?;
        ensure!(
            noticed + stopped <= Duration::from_secs(1),
            "took {noticed:?} and {stopped:?}"
        );
        container.verb("delete", &["--force"])?.ok();
        Ok(())
    })
}

#[test]
fn the_death_of_the_monitor_ends_the_container() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        let vmm = container.vmm()?;
        kill(container.monitor())?;
        container.wait_for("stopped", SOON)?;
        tests::output::until("the VMM is gone", SOON, || !tests::husk::runs(vmm))?;
        container.verb("delete", &[])?.ok();
        Ok(())
    })
}

/// One life of a container, by runc's commands.
fn cycle(bundle: &Bundle) -> Result<()> {
    let container = Container::create(bundle)?;
    container.verb("start", &[])?.ok();
    container.verb("kill", &["KILL"])?.ok();
    container.wait_for("stopped", SOON)?;
    container.verb("delete", &[])?.ok();
    Ok(())
}

/// One after the other: the testbed's emulator can crash its own kernel where several machines start at once.
fn cycles(count: u32) -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        (0..count).try_for_each(|number| cycle(&bundle).with_context(|| format!("cycle {number}")))
    })
}

#[test]
fn twenty_cycles_leave_nothing() -> Result<()> {
    cycles(20)
}

#[test]
#[ignore = "takes ten minutes; run by `cargo xtask test --all`"]
fn two_hundred_cycles_leave_nothing() -> Result<()> {
    cycles(200)
}
