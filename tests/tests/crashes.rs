//! `husk create` is killed, or refused something by the kernel, at one system call after another: what is left is cleaned by
//! `delete --force`, and a refusal leaves nothing at all. strace injects; husk has no code for it.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use tests::bundle::Bundle;
use tests::husk::husk;
use tests::leaks::watched;
use tests::output::{self, LIMIT};

const ID: &str = "crash";

/// System calls on the way of a create: of the command, of its monitor and of the machine, in each of which the counting starts anew.
const CALLS: &[(&str, &[u32])] = &[
    ("mkdir", &[1, 2]),
    ("flock", &[1, 2, 3]),
    ("openat", &[4, 8, 12, 16, 20, 30, 40]),
    ("rename", &[1, 2, 3]),
    ("symlink", &[1]),
    ("clone,clone3,fork,vfork", &[1, 2]),
    ("pipe2", &[1, 2]),
    ("socket", &[1, 2, 3]),
    ("bind", &[1]),
    ("execve", &[1]),
    ("setsid", &[1]),
    ("unshare", &[1]),
    ("pidfd_open", &[1]),
    ("connect", &[1, 2, 3]),
    ("sendto,sendmsg", &[1]),
    ("ioctl", &[1, 10, 30]),
    ("mount", &[1, 2]),
    ("dup2", &[1, 2]),
    ("fcntl", &[1]),
];

/// The few that are tried by default.
const FEW: &[(&str, &[u32])] = &[
    ("flock", &[1]),
    ("openat", &[12, 20]),
    ("rename", &[1, 2]),
    ("clone,clone3,fork,vfork", &[1]),
    ("connect", &[1]),
    ("dup2", &[1]),
];

/// `husk create` under strace, which does `injection` to it. Without an exit status the container is there, and strace at its monitor.
struct Traced {
    strace: std::process::Child,
    status: Option<ExitStatus>,
}

impl Traced {
    fn create(bundle: &Bundle, calls: &str, injection: &str) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"]);
        command.arg(format!("--trace={calls}"));
        command.arg(format!("--inject={calls}:{injection}"));
        command
            .args(["husk", "create", "--bundle"])
            .arg(bundle.path())
            .arg(ID);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(bundle.path().join("stderr"))?);
        let mut strace = command.spawn().context("strace is missing")?;
        let mut status = None;
        output::until(&format!("{calls}:{injection}: create ends"), LIMIT, || {
            status = strace.try_wait().ok().flatten();
            status.is_some() || is_created()
        })?;
        Ok(Self { strace, status })
    }

    /// Whether the injection kept the container from being made. Whatever it did, nothing may be left afterwards.
    fn clean_up(mut self) -> Result<bool> {
        husk(&["delete", "--force", ID])?.ok();
        ensure!(
            !Path::new("/run/husk").join(ID).exists(),
            "its directory is left"
        );
        // A second time there is nothing to do.
        husk(&["delete", "--force", ID])?.ok();
        let ended = output::wait(&mut self.strace, LIMIT)?;
        Ok(self.status.is_some_and(|_| !ended.success()))
    }
}

fn is_created() -> bool {
    husk(&["state", ID]).is_ok_and(|state| state.stdout.contains("\"created\""))
}

/// Kills whoever comes to one of the calls. Returns how many creates that ended.
fn kill_at(points: &[(&str, &[u32])]) -> Result<usize> {
    let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
    let mut hit = 0;
    for (calls, counts) in points {
        for count in *counts {
            let injection = format!("signal=KILL:when={count}");
            let killed = || Traced::create(&bundle, calls, &injection)?.clean_up();
            hit += usize::from(killed().with_context(|| format!("{calls}:{injection}"))?);
        }
    }
    Ok(hit)
}

/// Refuses one of the calls. A create that fails says so in one line, and has undone everything by then.
fn refuse_at(points: &[(&str, &[u32])], errors: &[&str]) -> Result<usize> {
    let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
    let mut hit = 0;
    for (index, (calls, counts)) in points.iter().enumerate() {
        for count in *counts {
            let injection = format!("error={}:when={count}", errors[index % errors.len()]);
            let refused = || {
                let traced = Traced::create(&bundle, calls, &injection)?;
                if traced.status.is_some_and(|status| !status.success()) {
                    let said = fs::read_to_string(bundle.path().join("stderr"))?;
                    ensure!(
                        said.lines().count() == 1 && said.starts_with("husk: "),
                        "{said}"
                    );
                    ensure!(
                        !Path::new("/run/husk").join(ID).exists(),
                        "not undone: {said}"
                    );
                }
                traced.clean_up()
            };
            hit += usize::from(refused().with_context(|| format!("{calls}:{injection}"))?);
        }
    }
    Ok(hit)
}

#[test]
fn whoever_is_killed_during_create_is_cleaned_up_after() -> Result<()> {
    watched(|| {
        let hit = kill_at(FEW)?;
        ensure!(hit >= 6, "only {hit} creates were ended");
        Ok(())
    })
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn killed_at_thirty_points_and_more() -> Result<()> {
    watched(|| {
        let hit = kill_at(CALLS)?;
        ensure!(hit >= 30, "only {hit} creates were ended");
        Ok(())
    })
}

#[test]
fn what_the_kernel_refuses_is_undone() -> Result<()> {
    watched(|| {
        let hit = refuse_at(FEW, &["ENOMEM", "EMFILE", "ENOSPC"])?;
        ensure!(hit >= 5, "only {hit} creates failed");
        Ok(())
    })
}

#[test]
#[ignore = "takes minutes; run by `cargo xtask test --all`"]
fn refused_at_thirty_points_with_each_error() -> Result<()> {
    watched(|| {
        let mut hit = 0;
        for error in ["ENOMEM", "EMFILE", "ENOSPC"] {
            hit += refuse_at(CALLS, &[error])?;
        }
        ensure!(hit >= 60, "only {hit} creates failed");
        Ok(())
    })
}
