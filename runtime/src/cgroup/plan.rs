//! What a container's cgroup is to be, decided before anything is made.

use oci_spec::runtime::Spec;
use rustix::process::getpid;

use super::{CgroupError, Driver, Group, HostCgroup, Limits, Place, limits};
use crate::rootless::Caller;
use crate::state::ContainerId;

/// The cgroup of a container that is being created.
#[derive(Debug)]
pub(crate) struct Plan {
    id: String,
    place: Place,
    limits: Limits,
    /// The monitor is in it. In the foreground that is the caller's own process, which stays where the caller put it.
    with_monitor: bool,
}

/// Whose cgroup a monitor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// The container's.
    Container,
    /// Its caller's.
    Caller,
}

impl Plan {
    /// Of a container whose machine has `guest_mib` of memory. The second part is what is left out, a line each.
    pub(crate) fn of(
        spec: &Spec,
        id: &ContainerId,
        driver: Driver,
        monitor: Membership,
        guest_mib: u32,
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let plan = Self {
            id: id.to_string(),
            place: Place::of(spec, id, driver)?,
            limits: Limits::of(resources, guest_mib),
            with_monitor: monitor == Membership::Container,
        };
        let warnings = resources.map(limits::left_out).unwrap_or_default();
        Ok((plan, warnings))
    }

    /// How `state.json` names it before it is there.
    pub(crate) fn record(&self) -> HostCgroup {
        HostCgroup {
            place: self.place.clone(),
            dir: None,
        }
    }

    /// Makes it around this process, if the monitor is to be in it: then all its children are.
    pub(crate) fn enter(&self) -> Result<Option<Group>, CgroupError> {
        if self.with_monitor {
            self.make(getpid().as_raw_nonzero().get())
        } else {
            Ok(None)
        }
    }

    /// Makes it around the machine, if the monitor is not in it.
    pub(crate) fn put(&self, machine: i32) -> Result<Option<Group>, CgroupError> {
        if self.with_monitor {
            Ok(None)
        } else {
            self.make(machine)
        }
    }

    fn make(&self, pid: i32) -> Result<Option<Group>, CgroupError> {
        match Group::make(self.place.clone(), &self.id, pid, &self.limits) {
            Err(error) if !self.place.named => self.without(error),
            outcome => outcome.map(Some),
        }
    }

    /// As runc: a user who may not have a cgroup, and asked for none, has none; nor has a container where there are no cgroups.
    fn without(&self, error: CgroupError) -> Result<Option<Group>, CgroupError> {
        let missing = matches!(error, CgroupError::NotMounted);
        match (
            Caller::of_process().is_rootless() || missing,
            self.limits.are_none(),
        ) {
            (true, true) => Ok(None),
            (true, false) => Err(CgroupError::Rootless(Box::new(error))),
            (false, _) => Err(error),
        }
    }

    /// Limits the processor time of a cgroup that was made by this plan.
    pub(crate) fn throttle(&self, group: Option<&Group>) -> Result<(), CgroupError> {
        match group {
            Some(group) => group.throttle(&self.id, &self.limits),
            None => Ok(()),
        }
    }
}
