//! Other people's file system tests on a share: pjdfstest and fsx. `cargo xtask test --all` installs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::debian_guest::DebianGuest;
use tests::leaks::watched;
use tests::output;

/// Either takes minutes in the testbed, fsx half an hour.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Where `cargo xtask test --all` puts the tools.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/husk-tests/tools");

/// Fewest results that count as a run of pjdfstest.
const RESULTS: usize = 390;

/// What a share cannot do, of what pjdfstest tries (docs/limitations.md).
const SKIPPED: &[&str] = &["link::link_count_max"];

#[test]
#[ignore = "takes minutes, and pjdfstest, which xtask test --all installs"]
fn pjdfstest_gives_on_a_share_what_it_gives_on_the_host() -> Result<()> {
    watched(|| {
        let guest = DebianGuest::new()?;
        tool(&guest, "pjdfstest")?;
        let settings = include_bytes!("../virtio-fs/pjdfstest.toml");
        guest.put("pjdfstest.toml", settings)?;
        for side in ["here", "there"] {
            fs::create_dir(guest.data().join(side))?;
        }
        let suite = |root: &Path, side: &str| {
            let root = root.display();
            format!("NO_COLOR=1 {root}/pjdfstest -c {root}/pjdfstest.toml -p {root}/{side}")
        };
        let line = suite(guest.data(), "here");
        let host = output::run(Command::new("sh").args(["-c", &line]), b"")?;
        let host = outcomes(&host.stdout);
        ensure!(host.len() >= RESULTS, "only {} on the host", host.len());
        let said = guest.run(&suite(Path::new("/mnt"), "there"), LIMIT)?;
        let share = outcomes(&said.output);
        let differ: Vec<String> = host
            .iter()
            .filter(|(name, outcome)| share.get(*name) != Some(outcome))
            .filter(|(name, _)| !SKIPPED.contains(&name.as_str()))
            .map(|(name, outcome)| format!("{name}: {outcome}, on the share {:?}", share.get(name)))
            .collect();
        println!("pjdfstest on the share: {}", sum(&share));
        ensure!(
            differ.is_empty() && host.len() == share.len(),
            "{} and {} results\n{}\n{}",
            host.len(),
            share.len(),
            differ.join("\n"),
            said.output
        );
        Ok(())
    })
}

#[test]
#[ignore = "takes half an hour, and fsx, which xtask test --all installs"]
fn fsx_does_100_000_operations_on_a_share() -> Result<()> {
    watched(|| fsx(&DebianGuest::new()?))
}

#[test]
#[ignore = "takes minutes, and fsx, which xtask test --all installs"]
fn fsx_does_100_000_operations_on_a_share_whose_writes_the_guest_gathers() -> Result<()> {
    watched(|| fsx(&DebianGuest::caching("always", true)?))
}

fn fsx(guest: &DebianGuest) -> Result<()> {
    tool(guest, "fsx")?;
    let said = guest.run("exec /mnt/fsx -q -N 100000 -S 42 /mnt/file", LIMIT)?;
    ensure!(said.status == 0, "{}", said.output);
    Ok(())
}

/// Copies a tool to where the guest has it, too.
fn tool(guest: &DebianGuest, name: &str) -> Result<()> {
    let tool = Path::new(TOOLS).join(name);
    fs::copy(&tool, guest.data().join(name))
        .with_context(|| format!("no {}: run cargo xtask test --all", tool.display()))
        .map(drop)
}

/// The outcome of each test: `ok`, `FAILED` or `skipped`.
fn outcomes(text: &str) -> BTreeMap<String, String> {
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(name), Some(outcome), None) if name.contains("::") => {
                Some((name.to_owned(), outcome.to_owned()))
            }
            _ => None,
        }
    };
    text.lines().filter_map(words).collect()
}

/// How often there is which outcome.
fn sum(outcomes: &BTreeMap<String, String>) -> String {
    let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
    for outcome in outcomes.values() {
        *sums.entry(outcome).or_default() += 1;
    }
    format!("{sums:?}")
}
