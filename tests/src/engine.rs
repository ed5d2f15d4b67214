//! Podman, Docker and containerd as a user has them, with an image named `box`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::output::{self, Output, shell};

/// Where scripts may leave files: on a whole file system, and empty at the start.
pub const SCRATCH: &str = "/var/tmp/engines";

/// A root file system with busybox, its commands, and two users.
const MAKE_ROOT: &str = r#"set -e
rm -rf /var/tmp/engines && mkdir -p /var/tmp/engines/root && cd /var/tmp/engines/root
mkdir -p bin etc tmp root proc sys dev run var home usr/bin usr/sbin sbin
cp /bin/busybox bin && chroot . /bin/busybox --install -s
printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/home:/bin/sh\n' >etc/passwd
printf 'root:x:0:\ndaemon:x:1:\n' >etc/group
chmod 1777 tmp && tar -cf ../box.tar . && cd .. && rm -r root
"#;

/// How long an engine's daemon may take to answer.
const DAEMON_LIMIT: Duration = Duration::from_secs(120);

/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `podman`: no daemon, conmon watches the containers.
    Podman,
    /// `docker`: dockerd and containerd with its shim.
    Docker,
    /// `ctr`: containerd with its shim, without what dockerd adds.
    Containerd,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }

    /// Shell functions: `engine` is the engine's command line with `$RUNTIME`.
    fn prelude(self) -> &'static str {
        match self {
            Self::Podman => PODMAN,
            Self::Docker => DOCKER,
            Self::Containerd => CONTAINERD,
        }
    }

    fn import(self) -> &'static str {
        match self {
            Self::Podman => {
                "podman image exists box || podman import -q /var/tmp/engines/box.tar box"
            }
            Self::Docker => "docker import /var/tmp/engines/box.tar box",
            Self::Containerd => IMPORT_BY_DOCKER_FORMAT,
        }
    }
}

// A container without a network says more about the runtime, and starts sooner.
const PODMAN: &str = r#"engine() {
    verb=$1; shift
    case $verb in run | create) set -- --network "${NETWORK:-none}" "$@" ;; esac
    podman --runtime "$RUNTIME" "$verb" "$@"
}
"#;
const DOCKER: &str = r#"engine() {
    verb=$1; shift
    case $verb in run | create) set -- --network "${NETWORK:-none}" --runtime "${RUNTIME##*/}" "$@" ;; esac
    docker "$verb" "$@"
}
"#;
const CONTAINERD: &str = r#"engine() {
    verb=$1; shift
    case $verb in run) set -- --runc-binary "$RUNTIME" "$@" ;; esac
    ctr -n tests "$verb" "$@"
}
"#;

/// `ctr` imports archives of images, not of root file systems; the archive of a one-layer image is soon made.
const IMPORT_BY_DOCKER_FORMAT: &str = r#"set -e
mkdir /var/tmp/engines/image && cd /var/tmp/engines/image && cp ../box.tar layer.tar
sum=$(sha256sum layer.tar | cut -d' ' -f1)
env='"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
printf '{"architecture":"amd64","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$env" "$sum" >config.json
printf '[{"Config":"config.json","RepoTags":["box"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf ../image.tar . && cd .. && rm -r image
ctr -n tests image import image.tar
ctr -n tests image tag docker.io/library/box:latest box
"#;

/// An engine that runs. Its daemon ends with it.
pub struct Engine {
    kind: Kind,
    daemon: Option<Child>,
}

impl Engine {
    /// Starts the engine's daemon, if it has one, and gives it the image.
    pub fn start(kind: Kind) -> Result<Self> {
        shell(MAKE_ROOT)?.ok();
        let engine = match kind {
            Kind::Podman => Self { kind, daemon: None },
            Kind::Docker => {
                let daemon = "exec dockerd --add-runtime husk=/usr/local/bin/husk";
                Self::with_daemon(kind, daemon, "docker info")?
            }
            Kind::Containerd => Self::with_daemon(kind, "exec containerd", "ctr version")?,
        };
        shell(kind.import())?.ok();
        Ok(engine)
    }

    fn with_daemon(kind: Kind, daemon: &str, answers: &str) -> Result<Self> {
        let log = fs::File::create(Path::new(SCRATCH).join("daemon.log"))?;
        let mut command = Command::new("sh");
        command.args(["-c", daemon]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let daemon = Some(command.spawn().context("cannot start the engine")?);
        let engine = Self { kind, daemon };
        let answered = || shell(answers).is_ok_and(|out| out.status.success());
        output::until("the engine answers", DAEMON_LIMIT, answered)?;
        Ok(engine)
    }

    /// Makes an image of an archive of its files: of Podman and Docker.
    pub fn import(&self, image: &str, archive: &Path) -> Result<()> {
        let engine = self.kind.name();
        shell(&format!("{engine} import {} {image}", archive.display()))?.ok();
        Ok(())
    }

    /// Runs a script of the shell in which `engine` is this engine with a runtime (a path). Both streams come as one.
    pub fn run(&self, runtime: &str, script: &str) -> Result<Output> {
        let script = format!("exec 2>&1\n{}{script}", self.kind.prelude());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("RUNTIME", runtime);
        output::run(command.current_dir(SCRATCH), b"")
    }

    /// Removes all containers.
    pub fn clear(&self) -> Result<()> {
        let script = match self.kind {
            Kind::Podman => "podman rm --force --all --time 0",
            Kind::Docker => "docker ps -aq | xargs -r docker rm -f",
            Kind::Containerd => {
                "for task in $(ctr -n tests task ls -q); do ctr -n tests task rm -f $task; done
                 for one in $(ctr -n tests container ls -q); do ctr -n tests container rm $one; done"
            }
        };
        let out = shell(script)?;
        ensure!(out.status.success(), "cannot clear: {out:?}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let ask = format!("kill {}", daemon.id());
            // A daemon that stays is told of as a leak.
            let _outcome = shell(&ask).and_then(|_| output::wait(&mut daemon, END_LIMIT));
        }
        // What engines leave by design. A file that is busy stays, and is told of as a leak.
        let _outcome = shell(
            "umount /run/docker/netns/* /var/lib/docker/* 2>/dev/null
             ip link delete docker0 2>/dev/null
             for group in docker libpod_parent podman_probe tests; do
                 find /sys/fs/cgroup/$group -depth -type d -exec rmdir {} + 2>/dev/null
             done
             rm -rf /var/tmp/engines /dev/shm/libpod_lock",
        );
    }
}
