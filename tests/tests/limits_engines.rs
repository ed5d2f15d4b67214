//! What limits do through engines, and what engines tell of a container's resources: the same with runc and with husk.

use anyhow::{Result, ensure};
use tests::engine::{Engine, Kind};

const HUSK: &str = "/usr/local/bin/husk";

/// What a script prints. Numbers that differ from run to run are made to words.
struct Step {
    script: &'static str,
    says: &'static str,
}

const fn step(script: &'static str, says: &'static str) -> Step {
    Step { script, says }
}

const FORK_BOMB: Step = step(
    r#"
engine run -d --name forks --pids-limit 20 box sh -c 'for i in $(seq 100); do sleep 600 & done; wait' >/dev/null
until engine logs forks 2>&1 | grep "can't fork"; do sleep 0.2; done
engine rm -f forks >/dev/null
"#,
    "sh: can't fork: Resource temporarily unavailable\n",
);

/// They run on while they are looked at.
const PROCESSOR_HOG: Step = step(
    r"
engine run -d --name cpu --memory 128m --cpus 0.5 box sh -c 'sleep 1000 & while :; do :; done' >/dev/null
engine exec -d --user daemon cpu sleep 777 >/dev/null
sleep 8
",
    "",
);

const MEMORY_HOG: &str = r"
engine run --name memory --memory 64m box dd if=/dev/zero of=/dev/null bs=100M count=1 >/dev/null 2>&1
echo memory $?
engine inspect memory --format '{{.State.OOMKilled}} {{.State.ExitCode}}'
";

/// Docker greps the host's `ps`. An update is seen where the container is.
const DOCKER: [Step; 6] = [
    step("date +%s >start\n", ""),
    step(MEMORY_HOG, "memory 137\ntrue 137\n"),
    FORK_BOMB,
    PROCESSOR_HOG,
    step(
        r#"
docker stats --no-stream --format '{{.CPUPerc}}' cpu | awk '{ print ($1 > 25 && $1 < 90) ? "half" : $1 }'
docker top cpu -eo pid,user,args | sed 's/^ *[0-9]* *//' | sort
"#,
        "half
PID                 USER                COMMAND
daemon              sleep 777
root                sh -c sleep 1000 & while :; do :; done
root                sleep 1000
",
    ),
    step(
        r"
docker update --cpus 1.5 --pids-limit 40 cpu
docker exec cpu sh -c 'cd /sys/fs/cgroup; cat cpu.max pids.max'
docker events --since $(cat start) --until 0s --filter event=oom --format '{{.Action}}'
",
        "cpu\n150000 100000\n40\noom\n",
    ),
];

/// This Podman's conmon tells it nothing of OOM kills on a host with cgroup v2. The first figure that Podman gives counts from the
/// container's start, with the boot of the machine.
const PODMAN: [Step; 4] = [
    step(MEMORY_HOG, "memory 137\nfalse 137\n"),
    FORK_BOMB,
    PROCESSOR_HOG,
    step(
        r#"
timeout 14 podman stats --no-reset -i 4 --format '{{.CPUPerc}}' cpu | tail -n 1 |
    awk '{ print ($1 > 25 && $1 < 90) ? "half" : $1 }'
podman stats --no-stream --format '{{.PIDs}}' cpu | awk '{ print ($1 > 2) ? "processes" : $1 }'
"#,
        "half\nprocesses\n",
    ),
];

/// It has no limit of processes.
const CONTAINERD: [Step; 2] = [
    step(
        r"
ctr -n tests events >events &
watcher=$!
sleep 2
engine run --memory-limit 67108864 box memory dd if=/dev/zero of=/dev/null bs=100M count=1 >/dev/null 2>&1
echo memory $?
sleep 2
kill $watcher
grep -o /tasks/oom events
",
        "memory 137\n/tasks/oom\n",
    ),
    step(
        r#"
engine run -d --cpus 0.5 box cpu sh -c 'while :; do :; done'
used() { ctr -n tests task metrics --format json cpu | grep -o '"usage_usec": *[0-9]*' | grep -o '[0-9]*$' | head -n 1; }
sleep 5
before=$(used) start=$(date +%s%N)
sleep 8
after=$(used) end=$(date +%s%N)
share=$(((after - before) * 100000 / (end - start)))
[ $share -gt 25 ] && [ $share -lt 90 ] && echo half || echo $share
"#,
        "half\n",
    ),
];

fn tells(kind: Kind, runtime: &str, steps: &[Step]) -> Result<()> {
    let engine = Engine::start(kind)?;
    for step in steps {
        let out = engine.run(runtime, step.script)?;
        // The testbed's kernel has no accounting of swap that Docker knows.
        let lines = out.stdout.lines();
        let said: Vec<_> = lines.filter(|line| !line.starts_with("WARNING")).collect();
        let expected: Vec<_> = step.says.lines().collect();
        ensure!(said == expected, "{}said:\n{}", step.script, out.stdout);
    }
    engine.clear()
}

#[test]
fn docker_tells_of_limits_and_use() -> Result<()> {
    tells(Kind::Docker, HUSK, &DOCKER)
}

#[test]
fn podman_tells_of_limits_and_use() -> Result<()> {
    tells(Kind::Podman, HUSK, &PODMAN)
}

#[test]
fn containerd_tells_of_limits_and_use() -> Result<()> {
    tells(Kind::Containerd, HUSK, &CONTAINERD)
}

#[test]
#[ignore = "takes minutes, and shows only that runc says the same"]
fn all_is_the_same_with_runc() -> Result<()> {
    tells(Kind::Docker, "/usr/sbin/runc", &DOCKER)?;
    tells(Kind::Podman, "/usr/sbin/runc", &PODMAN)?;
    tells(Kind::Containerd, "/usr/sbin/runc", &CONTAINERD)
}
