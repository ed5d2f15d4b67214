//! The half of the benchmark that runs in L1: measures every VMM and leaves the figures as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::peers::{KERNEL, Peer};
use super::vmm::{Figures, measure};

/// The figures, below the directory that both halves see.
pub(super) const RESULTS: &str = "boot.json";

/// Measure in the testbed; `bench` runs this.
#[derive(Args)]
pub(crate) struct Inside {
    #[arg(long)]
    runs: u32,
    dir: PathBuf,
}

/// Measures, on files that L1 has in its own page cache.
pub(crate) fn run(inside: &Inside) -> Result<i32> {
    let initrd = Path::new("/tmp/bench.img");
    fs::copy(inside.dir.join("bench.img"), initrd).context("cannot copy the initrd")?;
    fs::read(KERNEL).with_context(|| format!("cannot read {KERNEL}"))?;
    let mut results = Vec::new();
    for peer in Peer::ALL {
        eprintln!("measuring {}", peer.name());
        results.push(to_json(&measure(peer, initrd, inside.runs)?));
    }
    let text = serde_json::to_string_pretty(&Value::Array(results))?;
    fs::write(inside.dir.join(RESULTS), text).context("cannot write the results")?;
    Ok(0)
}

fn to_json(figures: &Figures) -> Value {
    json!({
        "name": figures.name,
        "first_line": figures.first_line,
        "exit": figures.exit,
        "cpu": figures.cpu,
        "memory_kib": figures.memory_kib,
        "threads": figures.threads,
        "exits": figures.exits,
        "syscalls": figures.syscalls,
    })
}

/// The figures that the other half wrote.
pub(super) fn parse(text: &str) -> Result<Vec<Figures>> {
    let results: Vec<Value> = serde_json::from_str(text).context("the results are no JSON")?;
    results
        .iter()
        .map(|result| {
            let number = |key: &str| {
                result[key]
                    .as_u64()
                    .with_context(|| format!("the results have no {key}"))
            };
            Ok(Figures {
                name: result["name"]
                    .as_str()
                    .context("the results have no name")?
                    .to_owned(),
                first_line: number("first_line")?,
                exit: number("exit")?,
                cpu: number("cpu")?,
                memory_kib: number("memory_kib")?,
                threads: number("threads")?,
                exits: number("exits")?,
                syscalls: number("syscalls")?,
            })
        })
        .collect()
}
