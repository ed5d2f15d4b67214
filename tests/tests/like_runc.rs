//! husk beside runc: the same command lines on the same bundles, with the same exit codes and the same words.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::leaks::watched;
use tests::output::{self, LIMIT};

const ID: &str = "like-runc";

/// What a command line came to.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// `msg` of the last line of the log.
    logged: String,
}

/// Both runtimes have a container at once, under the same id: each needs a cgroup of its own.
fn set_cgroup(runtime: &str, bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let config = fs::read(&path).unwrap_or_default();
    // Not of the bundles that are broken on purpose.
    if let Ok(mut config) = serde_json::from_slice::<Value>(&config) {
        config["linux"]["cgroupsPath"] = json!(format!("/like-{runtime}"));
        fs::write(path, config.to_string())?;
    }
    Ok(())
}

/// `RUNTIME ARGS`. Streams are files: a container inherits them, and a pipe would stay open as long as it lives.
fn ask(runtime: &str, bundle: &Path, args: &[&str]) -> Result<Answer> {
    let file = |name: &str| bundle.join(name);
    let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
    drop(fs::remove_file(file("log")));
    set_cgroup(runtime, bundle)?;
    let mut command = Command::new(runtime);
    command
        .arg("--log")
        .arg(file("log"))
        .args(["--log-format", "json"]);
    command.args(args).current_dir(bundle);
    command.stdin(Stdio::null());
    command.stdout(File::create(file("stdout"))?);
    command.stderr(File::create(file("stderr"))?);
    let status = output::wait(&mut command.spawn()?, LIMIT);
    let status = status.with_context(|| format!("{runtime} {args:?}"))?;
    let last: Value = serde_json::from_str(read("log").lines().last().unwrap_or("{}"))?;
    Ok(Answer {
        code: status.code(),
        stdout: read("stdout"),
        stderr: read("stderr"),
        logged: last["msg"].as_str().unwrap_or_default().to_owned(),
    })
}

/// Both runtimes end with `code`, and say `words` on standard error and in the log.
fn both_say(bundle: &Path, args: &[&str], code: i32, words: &str) -> Result<()> {
    for runtime in ["runc", "husk"] {
        let answer = ask(runtime, bundle, args)?;
        let told = answer.stderr.contains(words) && answer.logged.contains(words);
        let right = answer.code == Some(code) && (words.is_empty() || told);
        ensure!(
            right,
            "{runtime} {args:?}: not {code}, {words:?}: {answer:?}"
        );
    }
    Ok(())
}

/// One change of a bundle, and what `run` says to it.
fn refused(pointer: &str, value: &Value, words: &str) -> Result<()> {
    let bundle = Bundle::busybox()?
        .args(&["true"])?
        .set(pointer, value.clone())?;
    both_say(bundle.path(), &["run", ID], 1, words).with_context(|| format!("{pointer} {value}"))
}

#[test]
fn programs_that_cannot_run_are_refused_in_the_words_that_engines_look_for() -> Result<()> {
    watched(|| {
        for (program, words) in [
            ("nope", "exec: \"nope\": executable file not found in $PATH"),
            (
                "/nope",
                "exec: \"/nope\": stat /nope: no such file or directory",
            ),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
            ("/etc", "exec: \"/etc\": permission denied"),
        ] {
            refused("/process/args", &json!([program]), words)?;
        }
        refused("/process/cwd", &json!("/etc/passwd"), "not a directory")
    })
}

#[test]
fn bundles_that_make_no_sense_are_refused() -> Result<()> {
    let bad_seccomp = json!({"defaultAction": "SCMP_ACT_NOPE"});
    let bad_arch = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]});
    let bad_rlimit = json!([{"type": "RLIMIT_NOPE", "hard": 1, "soft": 1}]);
    let bad_mount =
        json!([{"destination": "/m", "type": "bind", "source": "/nonexist", "options": ["bind"]}]);
    let bad_device = json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]);
    let bad_hook = json!({"createRuntime": [{"path": "/nonexist"}]});
    let failing_hook = json!({"createRuntime": [{"path": "/bin/false"}]});
    watched(|| {
        for (pointer, value, words) in [
            ("/process/args", json!([]), "args must not be empty"),
            ("/process/cwd", json!("tmp"), "Cwd must be an absolute path"),
            (
                "/process/env",
                json!(["X"]),
                "invalid environment variable: \"X\"",
            ),
            ("/process/user/uid", json!("root"), "uid"),
            ("/process/rlimits", bad_rlimit, "RLIMIT_NOPE"),
            ("/process", Value::Null, "process"),
            ("/root", Value::Null, "root"),
            ("/root/path", json!("nonexist"), "nonexist"),
            ("/mounts", bad_mount, "/nonexist"),
            ("/hooks", bad_hook, "/nonexist"),
            ("/hooks", failing_hook, "hook"),
            ("/linux/seccomp", bad_seccomp, "SCMP_ACT_NOPE"),
            ("/linux/seccomp", bad_arch, "SCMP_ARCH_NOPE"),
            ("/linux/namespaces", json!([{"type": "nope"}]), "nope"),
            ("/linux/devices", bad_device, "type"),
            ("/linux/rootfsPropagation", json!("nope"), "nope"),
            ("/linux/sysctl", json!({"nope.nope": "1"}), "nope.nope"),
        ] {
            refused(pointer, &value, words)?;
        }
        let broken = Bundle::busybox()?.raw_config(b"{")?;
        both_say(broken.path(), &["run", ID], 1, "EOF")?;
        fs::remove_file(broken.path().join("config.json"))?;
        both_say(broken.path(), &["run", ID], 1, "config.json")
    })
}

#[test]
fn ids_command_lines_and_missing_containers() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["true"])?;
        let say = |args: &[&str], code, words| both_say(bundle.path(), args, code, words);
        say(&["create", ""], 1, "container id cannot be empty")?;
        for id in ["a/b", "..", ".", "a b", "a:b", "ä"] {
            say(&["create", id], 1, "invalid container ID format")?;
        }
        for verb in [
            "state", "start", "kill", "delete", "pause", "resume", "ps", "update", "events",
        ] {
            say(&[verb, "nobody"], 1, "container does not exist")?;
            say(&[verb], 1, "")?;
        }
        say(&["exec", "nobody", "true"], 255, "container does not exist")?;
        say(&["delete", "--force", "nobody"], 0, "")?;
        say(&["kill", "nobody", "NOPE"], 1, "container does not exist")?;
        say(&["nosuch"], 3, "")?;
        say(&["--nosuch"], 1, "")?;
        say(&["run", "--nosuch", "x"], 1, "")?;
        say(&["list", "--format", "nope"], 1, "")?;
        say(&["list", "--format", "json"], 0, "")?;
        say(&[], 0, "")?;
        say(&["--version"], 0, "")
    })
}

/// What a container answers to, and with what, from its birth to its end.
const LIFE: &[(&[&str], i32, &str)] = &[
    (&["create", ID], 0, ""),
    (&["create", ID], 1, "container with given ID already exists"),
    (&["run", ID], 1, "container with given ID already exists"),
    (&["exec", ID, "true"], 0, ""),
    (&["pause", ID], 0, ""),
    (
        &["start", ID],
        1,
        "cannot start a container in the paused state",
    ),
    (&["resume", ID], 0, ""),
    (&["delete", ID], 0, ""),
    (&["create", ID], 0, ""),
    (&["start", ID], 0, ""),
    (
        &["start", ID],
        1,
        "cannot start an already running container",
    ),
    (
        &["delete", ID],
        1,
        "cannot delete container like-runc that is not stopped: running",
    ),
    (&["kill", ID, "0"], 0, ""),
    (&["kill", ID, "NOPE"], 1, "unknown signal \"NOPE\""),
    (&["kill", ID, "99"], 1, ""),
    (&["kill", ID, "-1"], 1, ""),
    (&["ps", "-f", "json", ID], 0, ""),
    (&["ps", "-f", "nope", ID], 1, ""),
    (
        &["exec", ID, "nope"],
        255,
        "exec: \"nope\": executable file not found in $PATH",
    ),
    (
        &["exec", ID, "/nope"],
        255,
        "exec: \"/nope\": stat /nope: no such file or directory",
    ),
    (
        &["exec", ID, "/etc/passwd"],
        255,
        "exec: \"/etc/passwd\": permission denied",
    ),
    (
        &["exec", "--cwd", "/nope", ID, "true"],
        255,
        "chdir to cwd (\"/nope\") set in config.json failed: no such file",
    ),
    (
        &["exec", "--cwd", "rel", ID, "true"],
        255,
        "Cwd must be an absolute path",
    ),
    (&["exec", "--user", "nope", ID, "true"], 255, "nope"),
    (&["exec", "--user", "7:", ID, "true"], 255, ""),
    (&["exec", "--cap", "CAP_NOPE", ID, "true"], 0, ""),
    (
        &["exec", "--env", "X", ID, "true"],
        255,
        "invalid environment variable: \"X\"",
    ),
    (
        &[
            "exec", "--env", "X=1", "--env", "X=2", ID, "sh", "-c", "exit $X",
        ],
        2,
        "",
    ),
    (&["exec", "--process", "/nope", ID], 255, "/nope"),
    (&["exec", ID], 255, "process args cannot be empty"),
    (
        &["exec", "--console-socket", "/nope", ID, "true"],
        255,
        "cannot use console socket if",
    ),
    (
        &["exec", "--tty", "--detach", ID, "true"],
        255,
        "will detach without setting console socket",
    ),
    (&["exec", ID, "sh", "-c", "exit 3"], 3, ""),
    (&["exec", ID, "sh", "-c", "kill -9 $$"], 137, ""),
    (&["update", ID], 0, ""),
    (
        &["update", "--memory", "nope", ID],
        1,
        "invalid value for memory: ",
    ),
    (
        &["update", "--cpu-period", "nope", ID],
        1,
        "invalid value for cpu-period: ",
    ),
    (&["update", "--pids-limit", "nope", ID], 1, ""),
    (&["update", "--resources", "/nope", ID], 1, "/nope"),
    (
        &["events", "--interval", "0", ID],
        1,
        "duration interval must be greater than 0",
    ),
    (&["events", "--interval", "nope", ID], 1, ""),
    (&["pause", ID], 0, ""),
    (&["pause", ID], 1, "container not running"),
    (
        &["exec", ID, "true"],
        255,
        "cannot exec in a paused container",
    ),
    (&["delete", ID], 1, "that is not stopped: paused"),
    (&["update", "--pids-limit", "77", ID], 0, ""),
    (&["resume", ID], 0, ""),
    (&["resume", ID], 1, "container not paused"),
    (&["kill", ID, "KILL"], 0, ""),
];

/// What a stopped one answers.
const AFTERLIFE: &[(&[&str], i32, &str)] = &[
    (
        &["start", ID],
        1,
        "cannot start a container that has stopped",
    ),
    (
        &["exec", ID, "true"],
        255,
        "cannot exec in a stopped container",
    ),
    (&["kill", ID], 1, "container not running"),
    (&["kill", ID, "0"], 1, "container not running"),
    (&["kill", "--all", ID], 0, ""),
    (&["pause", ID], 1, "container not running"),
    (&["resume", ID], 1, "container not paused"),
    (
        &["update", "--pids-limit", "5", ID],
        1,
        "container not running",
    ),
    (
        &["events", ID],
        1,
        "container with id like-runc is not running",
    ),
    (
        &["events", "--stats", ID],
        1,
        "container with id like-runc is not running",
    ),
    (&["ps", ID], 0, ""),
    (&["ps", "-f", "json", ID], 0, ""),
    (&["delete", ID], 0, ""),
    (&["delete", ID], 1, "container does not exist"),
    (&["delete", "--force", ID], 0, ""),
];

#[test]
fn every_command_in_every_state() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        for (args, code, words) in LIFE {
            both_say(bundle.path(), args, *code, words)?;
        }
        for runtime in ["runc", "husk"] {
            let stopped = || {
                let state = ask(runtime, bundle.path(), &["state", ID]);
                state.is_ok_and(|answer| answer.stdout.contains("\"stopped\""))
            };
            output::until("the container stops", LIMIT, stopped)?;
        }
        for (args, code, words) in AFTERLIFE {
            both_say(bundle.path(), args, *code, words)?;
        }
        Ok(())
    })
}

/// Keys of an object and of the objects in it, in their order.
fn keys(text: &str) -> Vec<String> {
    let strings = text
        .split('"')
        .skip(1)
        .step_by(2)
        .zip(text.split('"').skip(2).step_by(2));
    let keys = strings.filter(|(_, after)| after.trim_start().starts_with(':'));
    keys.map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn what_is_printed_has_the_same_shape() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        both_say(bundle.path(), &["run", "--detach", ID], 0, "")?;
        let both = |args: &[&str]| -> Result<(String, String)> {
            let ask = |runtime| Ok::<_, anyhow::Error>(ask(runtime, bundle.path(), args)?.stdout);
            Ok((ask("runc")?, ask("husk")?))
        };
        for args in [&["state", ID][..], &["list", "-f", "json"]] {
            let (runc, husk) = both(args)?;
            ensure!(keys(&runc) == keys(&husk), "{args:?}: {runc} {husk}");
        }
        for args in [&["list"][..], &["ps", ID]] {
            let (runc, husk) = both(args)?;
            ensure!(
                runc.lines().count() == husk.lines().count(),
                "{args:?}: {runc} {husk}"
            );
            let headings = |text: &str| {
                text.split_whitespace()
                    .take(6)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            ensure!(
                headings(&runc) == headings(&husk),
                "{args:?}: {runc} {husk}"
            );
        }
        let (_, ps) = both(&["ps", ID])?;
        ensure!(ps.contains("sleep 1000"), "{ps}");
        let (_, pids) = both(&["ps", "--format", "json", ID])?;
        let pids: Vec<i32> = serde_json::from_str(&pids)?;
        ensure!(
            pids.first().is_some_and(|pid| tests::husk::runs(*pid)),
            "{pids:?}"
        );
        stats_have_runcs_keys(&both(&["events", "--stats", ID])?)?;
        both_say(bundle.path(), &["delete", "--force", ID], 0, "")
    })
}

/// `data` and what is in it, but for the counters of `memory.stat`, which differ from kernel to kernel, and for devices.
fn stats_have_runcs_keys((runc, husk): &(String, String)) -> Result<()> {
    let shape = |text: &str| -> Result<Vec<String>> {
        let mut event: Value = serde_json::from_str(text)?;
        let data = &mut event["data"];
        data["memory"]["raw"] = json!({});
        // Left out if nothing is cached.
        data["memory"]["cache"] = json!(0);
        data["blkio"] = json!({});
        data["hugetlb"] = json!({});
        let mut keys = keys(&event.to_string());
        keys.sort();
        Ok(keys)
    };
    let (runc_keys, husk_keys) = (shape(runc)?, shape(husk)?);
    ensure!(runc_keys == husk_keys, "{runc} {husk}");
    let husk: Value = serde_json::from_str(husk)?;
    ensure!(husk["type"] == "stats" && husk["id"] == ID, "{husk}");
    ensure!(
        husk["data"]["memory"]["usage"]["usage"].as_u64() > Some(0),
        "{husk}"
    );
    ensure!(husk["data"]["pids"]["current"] == 1, "{husk}");
    Ok(())
}
