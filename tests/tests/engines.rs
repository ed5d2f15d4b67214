//! Podman, Docker and containerd with husk in runc's place: the same commands, the same answers.

use anyhow::Result;
use tests::comparison::compare;
use tests::engine::Kind;
use tests::leaks::watched;

const CONTAINERS: &str = include_str!("../engines/containers.txt");
const CONTAINERD: &str = include_str!("../engines/containerd.txt");

fn quick(kind: Kind, text: &str) -> Result<()> {
    watched(|| compare(kind, text, true))
}

fn whole(kind: Kind, text: &str) -> Result<()> {
    watched(|| compare(kind, text, false))
}

#[test]
fn podman_answers_as_with_runc() -> Result<()> {
    quick(Kind::Podman, CONTAINERS)
}

#[test]
fn docker_answers_as_with_runc() -> Result<()> {
    quick(Kind::Docker, CONTAINERS)
}

#[test]
fn containerd_answers_as_with_runc() -> Result<()> {
    quick(Kind::Containerd, CONTAINERD)
}

#[test]
#[ignore = "takes minutes"]
fn podman_answers_as_with_runc_to_everything_else() -> Result<()> {
    whole(Kind::Podman, CONTAINERS)
}

#[test]
#[ignore = "takes minutes"]
fn docker_answers_as_with_runc_to_everything_else() -> Result<()> {
    whole(Kind::Docker, CONTAINERS)
}

#[test]
#[ignore = "takes minutes"]
fn containerd_answers_as_with_runc_to_everything_else() -> Result<()> {
    whole(Kind::Containerd, CONTAINERD)
}
