//! `husk create` is killed, or refused something by the kernel, at one system call after another: what is left is cleaned by
//! `delete --force`, and a refusal leaves nothing at all. strace injects; husk has no code for it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use tests::bundle::Bundle;
use tests::husk::husk;
use tests::leaks::watched;
use tests::output::{self, LIMIT};

const ID: &str = "crash";

/// Calls, and at which of them.
type Points = [(&'static str, &'static [u32])];

/// System calls on the way of a create: of the command, of its monitor and of each thread of the machine, in every one of which the
/// counting starts anew. strace 6.1 with `--seccomp-bpf`, which is much faster, kills at the first of a kind only.
const CALLS: &Points = &[
    ("flock", &[1]),
    ("rename", &[1]),
    ("clone,clone3,fork,vfork", &[1]),
    ("bind", &[1]),
    ("fsconfig", &[1]),
    ("dup2", &[1]),
];

/// What the kernel refuses with, one after the other.
const ERRORS: &[&str] = &["ENOMEM", "EMFILE", "ENOSPC"];

/// `husk create` under strace, which has done an injection to it.
struct Traced {
    strace: Child,
    /// Without one the container is there, and strace at its monitor.
    status: Option<ExitStatus>,
    /// What strace saw until then.
    log: String,
}

impl Traced {
    fn create(bundle: &Bundle, calls: &str, injection: &str) -> Result<Self> {
        let log = bundle.path().join("strace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-o"]).arg(&log);
        command.arg(format!("--trace={calls}"));
        command.arg(format!("--inject={calls}:{injection}"));
        command.args(["husk", "create", "--bundle"]);
        command.arg(bundle.path()).arg(ID);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(bundle.path().join("stderr"))?);
        let mut strace = command.spawn().context("strace is missing")?;
        let mut status = None;
        let waited = output::until("create ends", LIMIT, || {
            status = strace.try_wait().ok().flatten();
            status.is_some() || is_created()
        });
        if waited.is_err() {
            strace.kill()?;
            strace.wait()?;
        }
        waited?;
        let log = fs::read_to_string(log)?;
        Ok(Self {
            strace,
            status,
            log,
        })
    }

    /// Whatever was done to it, nothing may be left afterwards.
    fn clean_up(mut self) -> Result<()> {
        husk(&["delete", "--force", ID])?.ok();
        ensure!(!has_directory(), "its directory is left");
        // A second time there is nothing to do.
        husk(&["delete", "--force", ID])?.ok();
        output::wait(&mut self.strace, LIMIT).map(drop)
    }
}

fn is_created() -> bool {
    husk(&["state", ID]).is_ok_and(|state| state.stdout.contains("\"status\": \"created\""))
}

fn has_directory() -> bool {
    Path::new("/run/husk").join(ID).exists()
}

/// Kills whoever comes to one of the calls. Returns how many were killed.
fn kill_at(points: &Points) -> Result<usize> {
    each(points, |bundle, calls, count| {
        let injection = format!("signal=KILL:when={count}");
        let traced = Traced::create(bundle, calls, &injection)?;
        let killed = traced.log.contains("killed by SIGKILL");
        traced.clean_up()?;
        Ok(killed)
    })
}

/// Refuses one of the calls. A create that fails says so in one line, and has undone everything by then. Returns how many failed.
fn refuse_at(points: &Points) -> Result<usize> {
    let mut errors = ERRORS.iter().cycle();
    each(points, |bundle, calls, count| {
        let error = errors.next().context("no errors")?;
        let injection = format!("error={error}:when={count}");
        let traced = Traced::create(bundle, calls, &injection)?;
        let failed = traced.status.is_some_and(|status| !status.success());
        let undone = !has_directory();
        traced.clean_up()?;
        if failed {
            let said = fs::read_to_string(bundle.path().join("stderr"))?;
            let prefixed = said.starts_with("husk create failed: ");
            ensure!(prefixed && said.lines().count() == 1, "{error}: {said}");
            ensure!(undone, "{error}: not undone: {said}");
        }
        Ok(failed)
    })
}

/// Does something at each of the points; returns how often that was so.
fn each(
    points: &Points,
    mut injected: impl FnMut(&Bundle, &str, u32) -> Result<bool>,
) -> Result<usize> {
    let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
    let mut hits = 0;
    for (calls, counts) in points {
        for count in *counts {
            let hit = injected(&bundle, calls, *count);
            hits += usize::from(hit.with_context(|| format!("{calls} number {count}"))?);
        }
    }
    Ok(hits)
}

/// The story of one test: at least so many of the points must have been come to.
fn tell(story: fn(&Points) -> Result<usize>, points: &Points, least: usize) -> Result<()> {
    watched(|| {
        let hits = story(points)?;
        ensure!(hits >= least, "only {hits} of the points were hit");
        Ok(())
    })
}

#[test]
fn whoever_is_killed_during_create_is_cleaned_up_after() -> Result<()> {
    tell(kill_at, CALLS, 5)
}

#[test]
fn what_the_kernel_refuses_is_undone() -> Result<()> {
    tell(refuse_at, CALLS, 5)
}
