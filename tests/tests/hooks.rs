//! Hooks: programs that run at given moments of a container's life, some on the host, one inside. runc on the same machine
//! is the reference.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::husk;
use tests::leaks::watched;
use tests::output::Output;
use tests::runc::{self, both};

/// Every kind, in the order of their moments.
const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a line of shell, with the programs of where it runs.
fn hook(line: &str) -> Value {
    let line = format!("b() {{ /bin/busybox \"$@\"; }}; {line}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin:/usr/bin"]}])
}

#[test]
fn all_six_run_in_order_with_the_state() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?;
        let log = bundle.path().join("rootfs/log");
        let mut hooks = json!({});
        for kind in KINDS {
            let log = match kind {
                "startContainer" => "/log".to_owned(),
                _ => log.display().to_string(),
            };
            let status = r#"b sed 's/.*"status":"\([a-z]*\)".*/\1/'"#;
            hooks[kind] = hook(&format!("echo {kind} $({status}) >>{log}"));
        }
        let bundle = bundle
            .set("/hooks", hooks)?
            .shell("echo program >>/log; sleep 1")?;
        let mut logs = Vec::new();
        for run in [runc::run, husk::run] {
            run(&bundle)?.ok();
            logs.push(fs::read_to_string(&log).context("no hook wrote anything")?);
            fs::remove_file(&log)?;
        }
        let expected = "prestart creating\ncreateRuntime creating\ncreateContainer creating\n\
                        startContainer created\npoststart running\nprogram\npoststop stopped\n";
        // poststart runs beside what it follows, with runc as well; to runc, a container is created until it is over.
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let runc = logs[0].replace("poststart created", "poststart running");
        ensure!(sorted(&runc) == sorted(expected), "runc: {runc}");
        ensure!(sorted(&logs[1]) == sorted(expected), "husk: {}", logs[1]);
        let in_order = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("poststart"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        ensure!(in_order(&logs[1]) == in_order(expected), "{}", logs[1]);
        Ok(())
    })
}

#[test]
fn create_container_hooks_are_in_namespaces_of_the_container() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?;
        let places = "readlink /proc/self/ns/mnt /proc/self/ns/net";
        let hooks = json!({
            "createRuntime": hook(&format!("{places} >rootfs/runtime")),
            "createContainer": hook(&format!(
                "{places} >container; pwd >pwd; mount -t tmpfs none /mnt; echo made >made"
            )),
        });
        let bundle = bundle.set("/hooks", hooks)?.shell("cat /made")?;
        let root = bundle.path().join("rootfs");
        let read = |name: &str| fs::read_to_string(root.join(name));
        let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}"));
        let host = [own("mnt")?, own("net")?].map(|link| link.display().to_string());
        for output in both(&bundle)? {
            ensure!(output.ok() == "made", "{output:?}");
            ensure!(
                read("runtime")?.lines().eq(host.iter()),
                "{:?}",
                read("runtime")
            );
            let container = read("container")?;
            ensure!(
                container
                    .lines()
                    .zip(&host)
                    .all(|(inside, host)| inside != host),
                "{container}"
            );
            ensure!(read("pwd")?.trim() == root.display().to_string());
            ensure!(!fs::read_to_string("/proc/mounts")?.contains(" /mnt "));
        }
        Ok(())
    })
}

#[test]
fn a_hook_without_environment_has_that_of_the_program() -> Result<()> {
    watched(|| {
        for kind in ["createContainer", "startContainer"] {
            let line = match kind {
                "startContainer" => "echo $ONLY >/tmp/only",
                _ => "echo $ONLY >tmp/only",
            };
            let hooks = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", line]}]});
            let bundle = Bundle::busybox()?
                .set("/hooks", hooks)?
                .set("/process/env", json!(["PATH=/bin", "ONLY=here"]))?
                .shell("cat /tmp/only")?;
            for output in both(&bundle)? {
                ensure!(output.ok() == "here", "{kind}: {output:?}");
            }
        }
        Ok(())
    })
}

/// What a failed hook makes of a run: runc's code and words, and husk's that name the hook besides.
fn fails_alike(kind: &str, hook: &Value) -> Result<()> {
    let bundle = Bundle::busybox()?
        .set("/hooks", json!({ kind: hook }))?
        .shell("echo ran; sleep 1")?;
    let [runc, husk] = both(&bundle)?;
    ensure!(runc.code() == husk.code(), "{kind}: {runc:?} {husk:?}");
    let words = |output: &Output| {
        let text = output.stderr.replace("\\n", " ").replace('\n', " ");
        let begin = text.find("error running hook #0");
        let text = begin.map(|begin| text[begin..].trim_end_matches(['"', ' ']).to_owned());
        text.with_context(|| format!("{kind}: {output:?}"))
    };
    let path = hook[0]["path"].as_str().context("no path")?;
    let plain = words(&husk)?.replace(&format!(" ({kind}: {path})"), "");
    ensure!(plain == words(&runc)?, "{kind}: {plain}\nrunc: {runc:?}");
    Ok(())
}

#[test]
fn a_hook_that_fails_is_told_as_runc_does() -> Result<()> {
    watched(|| {
        for kind in KINDS {
            fails_alike(kind, &hook("echo out; echo err >&2; exit 3"))?;
        }
        Ok(())
    })
}

#[test]
fn a_hook_that_is_missing_or_takes_too_long_is_told_as_runc_does() -> Result<()> {
    watched(|| {
        let slow = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 100"],
            "env": ["PATH=/bin:/usr/bin"], "timeout": 1}]);
        for kind in ["createContainer", "startContainer", "poststart"] {
            fails_alike(kind, &json!([{"path": "/nowhere/hook"}]))?;
            fails_alike(kind, &slow)?;
        }
        Ok(())
    })
}
