//! A server as people run it: redis, of Debian's packages, under Docker and Podman with husk.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::engine::{Engine, Kind, SCRATCH};
use tests::leaks::watched;
use tests::output::{self, until};
use tests::terminal::Terminal;

/// Beside the test programs, where `xtask test` puts the image.
const IMAGE: &str = "redis.tar";

/// The runtime.
const HUSK: &str = "/usr/local/bin/husk";

/// A start, or an answer, in a slow testbed.
const SOON: Duration = Duration::from_secs(60);

/// What engines give a program between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Runs redis without a network: its own loopback is enough for its client.
const START: &str = "engine run -d --name redis redis redis-server --save '' --bind 127.0.0.1";

/// One engine and its server.
struct Server {
    engine: Engine,
    start: Instant,
}

impl Server {
    fn new(kind: Kind) -> Result<Self> {
        let engine = Engine::start(kind)?;
        let program = std::env::current_exe()?;
        let dir = program.parent().and_then(Path::parent);
        let archive = dir.context("no fixtures")?.join(IMAGE);
        engine.import("redis", &archive)?;
        Ok(Self {
            engine,
            start: Instant::now(),
        })
    }

    /// What a command says that must succeed.
    #[expect(
        clippy::print_stderr,
        reason = "libtest keeps what is printed from its own lines, which are counted"
    )]
    fn says(&self, script: &str) -> Result<String> {
        // With --nocapture it shows what a slow machine is busy with.
        eprintln!("{:?} $ {script}", self.start.elapsed());
        let out = self.engine.run(HUSK, script).context(script.to_owned())?;
        ensure!(out.status.success(), "$ {script}\n{out:?}");
        Ok(out.stdout.trim_end().to_owned())
    }

    /// Waits until the logs have `text` as often as that.
    fn logs(&self, text: &str, times: usize) -> Result<()> {
        let found = || {
            let logs = self.says("engine logs redis");
            logs.is_ok_and(|logs| logs.matches(text).count() == times)
        };
        until(text, SOON, found).map(drop)
    }

    /// `logs -f` into a file.
    fn follow(&self, kind: Kind, file: &Path) -> Result<Child> {
        let file = File::create(file)?;
        let mut logs = Command::new(kind.name());
        logs.args(["logs", "-f", "redis"]).stdin(Stdio::null());
        logs.stdout(file.try_clone()?).stderr(file);
        logs.spawn().context("cannot follow the logs")
    }

    fn client(&self, command: &str) -> Result<String> {
        self.says(&format!("engine exec redis redis-cli {command}"))
    }

    /// The client under a user's hands.
    fn types_at_the_client(&self, kind: Kind) -> Result<()> {
        let mut exec = Command::new(kind.name());
        exec.args(["exec", "-it", "redis", "redis-cli"]);
        let mut terminal = Terminal::start(&mut exec)?;
        terminal.expect("127.0.0.1:6379> ", SOON)?;
        terminal.type_keys("get key\r")?;
        terminal.expect("\"value\"", SOON)?;
        terminal.type_keys("quit\r")?;
        ensure!(terminal.finish(SOON)? == 0);
        Ok(())
    }
}

fn serves(kind: Kind) -> Result<()> {
    let server = Server::new(kind)?;
    server.says(START)?;
    let followed = Path::new(SCRATCH).join("follow");
    let mut follower = server.follow(kind, &followed)?;
    server.logs("Ready to accept connections", 1)?;
    ensure!(server.client("set key value")? == "OK");
    server.types_at_the_client(kind)?;

    let state = server.says("engine inspect -f '{{.State.Status}} {{.State.Pid}}' redis")?;
    let pid = state.strip_prefix("running ").context(state.clone())?;
    ensure!(Path::new("/proc").join(pid).exists(), "{state}");
    if kind == Kind::Docker {
        // Podman's looks into the container's /proc, which the guest alone has: docs/limitations.md.
        let top = server.says("engine top redis")?;
        ensure!(top.contains("redis-server"), "{top}");
    }
    let stats = server.says("engine stats --no-stream redis")?;
    ensure!(stats.contains("MiB /") || stats.contains("MB /"), "{stats}");

    let copy =
        "echo kept >in && engine cp in redis:/var/in && engine exec redis busybox cat /var/in";
    ensure!(server.says(copy)?.ends_with("kept"));
    let config = server.says("engine cp redis:/etc/redis/redis.conf - | tar -xO | grep ^port")?;
    ensure!(config == "port 6379", "{config}");

    let started = Instant::now();
    server.says("engine stop redis")?;
    let stopping = started.elapsed();
    let ended = server.says("engine inspect -f '{{.State.Status}} {{.State.ExitCode}}' redis")?;
    ensure!(ended == "exited 0", "{ended} after {stopping:?}");
    server.logs("Received SIGTERM", 1)?;
    server.logs("bye bye", 1)?;
    // It ends with the container.
    output::wait(&mut follower, SOON)?;
    let followed = fs::read_to_string(&followed)?;
    ensure!(followed.contains("bye bye"), "{followed}");

    server.says("engine start redis")?;
    server.logs("Ready to accept connections", 2)?;
    server.says("engine restart redis")?;
    server.logs("Ready to accept connections", 3)?;
    ensure!(server.client("ping")? == "PONG");
    server.says("engine rm -f redis")?;
    server.engine.clear()
}

/// A program that will not hear gets its ten seconds.
fn waits_for_the_deaf(kind: Kind) -> Result<()> {
    let server = Server::new(kind)?;
    let deaf = r#"trap "echo heard" TERM; echo up; while :; do sleep 0.1; done"#;
    server.says(&format!("engine run -d --name redis box sh -c '{deaf}'"))?;
    server.logs("up", 1)?;
    let started = Instant::now();
    server.says("engine stop redis 2>/dev/null")?;
    let took = started.elapsed();
    ensure!(took >= GRACE, "{took:?}");
    let ended = server.says("engine inspect -f '{{.State.ExitCode}}' redis")?;
    ensure!(ended == "137", "{ended}");
    server.logs("heard", 1)?;
    server.engine.clear()
}

#[test]
fn podman_runs_a_real_server() -> Result<()> {
    watched(|| serves(Kind::Podman))
}

#[test]
#[ignore = "takes minutes"]
fn docker_runs_a_real_server() -> Result<()> {
    watched(|| serves(Kind::Docker))
}

#[test]
#[ignore = "takes minutes"]
fn podman_gives_a_real_server_time_to_stop() -> Result<()> {
    watched(|| waits_for_the_deaf(Kind::Podman))
}

#[test]
#[ignore = "takes minutes"]
fn docker_gives_a_real_server_time_to_stop() -> Result<()> {
    watched(|| waits_for_the_deaf(Kind::Docker))
}
