//! Many containers: one after the other, and at once.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::bundle::Bundle;
use tests::husk::{self, Container};
use tests::leaks::watched;

/// What a busy machine has in a day.
const IN_SEQUENCE: usize = 300;

/// What it has at a time.
const AT_ONCE: usize = 20;

/// How many of these start in the same moment: a slow testbed starts no twenty within a command's time limit.
const STARTING: usize = 4;

/// Memory of each: little, so that all of them fit.
const MEMORY: u64 = 64 << 20;

fn small(bundle: Bundle) -> Result<Bundle> {
    bundle.set("/linux/resources", json!({"memory": {"limit": MEMORY}}))
}

/// Starts containers that race with each other, as they do when a host comes up.
fn started(bundles: &[Bundle]) -> Result<Vec<Container<'_>>> {
    std::thread::scope(|scope| {
        let starts: Vec<_> = bundles
            .iter()
            .map(|bundle| scope.spawn(|| Container::running(bundle)))
            .collect();
        let ended = starts.into_iter().map(|start| {
            let outcome = start.join();
            outcome.map_err(|_| anyhow::anyhow!("a start panicked"))?
        });
        ended.collect()
    })
}

#[test]
#[ignore = "takes minutes"]
fn three_hundred_containers_in_sequence_leave_nothing() -> Result<()> {
    watched(|| {
        let bundle = small(Bundle::busybox()?.args(&["sh", "-c", "echo one more; exit 3"])?)?;
        for number in 0..IN_SEQUENCE {
            let out = husk::run(&bundle).with_context(|| format!("container {number}"))?;
            ensure!(
                out.code() == 3 && out.stdout == "one more\n",
                "container {number}: {out:?}"
            );
        }
        Ok(())
    })
}

#[test]
#[ignore = "takes minutes"]
fn twenty_containers_at_once_answer_and_leave_nothing() -> Result<()> {
    watched(|| {
        let bundles: Vec<Bundle> = (0..AT_ONCE)
            .map(|_| small(Bundle::busybox()?.args(&["sleep", "10000"])?))
            .collect::<Result<_>>()?;
        let mut containers = Vec::new();
        for bundles in bundles.chunks(STARTING) {
            containers.extend(started(bundles)?);
        }
        for container in &containers {
            let name = container.exec(&["sh", "-c", "echo > /mine; ls / | grep -c mine"])?;
            ensure!(name.ok() == "1", "{name:?}");
        }
        let machines: std::collections::BTreeSet<i32> = containers
            .iter()
            .map(Container::vmm)
            .collect::<Result<_>>()?;
        ensure!(machines.len() == AT_ONCE, "{machines:?}");
        for container in &containers {
            container.verb("delete", &["--force"])?.ok();
        }
        Ok(())
    })
}
