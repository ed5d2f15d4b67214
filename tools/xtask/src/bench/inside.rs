//! The half of the benchmark that runs in L1: measures every VMM and leaves the figures as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::peers::{KERNEL, Peer};
use super::starts::{self, Start};
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
    let starts: Vec<Value> = starts::measure(inside.runs)?
        .iter()
        .map(|start| json!({ "name": start.name, "instructions": start.instructions }))
        .collect();
    let text = serde_json::to_string_pretty(&json!({ "vmms": results, "starts": starts }))?;
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
pub(super) fn parse(text: &str) -> Result<(Vec<Figures>, Vec<Start>)> {
    let results: Value = serde_json::from_str(text).context("the results are no JSON")?;
    let list = |key: &str| {
        results[key]
            .as_array()
            .with_context(|| format!("the results have no {key}"))
    };
    let figures = list("vmms")?.iter().map(figures).collect::<Result<_>>()?;
    let starts = list("starts")?.iter().map(|start| {
        Ok(Start {
            name: name(start)?,
            instructions: number(start, "instructions")?,
        })
    });
    Ok((figures, starts.collect::<Result<_>>()?))
}

fn name(result: &Value) -> Result<String> {
    Ok(result["name"]
        .as_str()
        .context("the results have no name")?
        .to_owned())
}

fn number(result: &Value, key: &str) -> Result<u64> {
    result[key]
        .as_u64()
        .with_context(|| format!("the results have no {key}"))
}

fn figures(result: &Value) -> Result<Figures> {
    Ok(Figures {
        name: name(result)?,
        first_line: number(result, "first_line")?,
        exit: number(result, "exit")?,
        cpu: number(result, "cpu")?,
        memory_kib: number(result, "memory_kib")?,
        threads: number(result, "threads")?,
        exits: number(result, "exits")?,
        syscalls: number(result, "syscalls")?,
    })
}
