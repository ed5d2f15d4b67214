//! The cgroup of the host that a container's `linux.cgroupsPath` names: its machine and its monitors are in it, so that
//! engines count them and the host is safe from them. The container itself is limited in the guest as well.
//!
//! Version 2 only: the unified hierarchy. The library does the writing, and talks to systemd.

mod error;
mod group;
mod limits;
mod oom;
mod place;
mod plan;

pub(crate) use error::CgroupError;
pub(crate) use group::{Group, HostCgroup};
use limits::Limits;
pub(crate) use place::Driver;
use place::Place;
pub(crate) use plan::{Membership, Plan};
