//! A cgroup of the host: made, entered, limited and removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, ControllerOpt, DEFAULT_CGROUP_ROOT,
    create_cgroup_manager, get_cgroup_setup,
};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::{CgroupError, Driver, Limits, Place};

/// The file of a cgroup's processes.
const PROCS: &str = "cgroup.procs";

/// How long the processes in a cgroup get to end by themselves: monitors do when their machine has.
const END_LIMIT: Duration = Duration::from_secs(2);

/// How long killed ones get.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const PAUSE: Duration = Duration::from_millis(5);

/// A container's cgroup, as `state.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostCgroup {
    /// Its name.
    pub(crate) place: Place,
    /// Its directory, once it has been made.
    pub(crate) dir: Option<PathBuf>,
}

/// A cgroup of a container that is not complete yet: removed unless it is kept.
#[derive(Debug)]
pub(crate) struct Group {
    cgroup: HostCgroup,
    /// Where this process came from, if it is in the cgroup.
    origin: Option<PathBuf>,
    kept: bool,
}

/// The cgroup that this process is in.
pub(super) fn own_path() -> Result<PathBuf, CgroupError> {
    path_of(Path::new("/proc/self/cgroup"))
}

fn path_of(file: &Path) -> Result<PathBuf, CgroupError> {
    let failed = |source| CgroupError::File {
        path: file.to_owned(),
        source,
    };
    let text = fs::read_to_string(file).map_err(failed)?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    let missing = || failed(io::ErrorKind::InvalidData.into());
    line.map(PathBuf::from).ok_or_else(missing)
}

/// Whether it is a thread of the kernel's: it has no command line.
fn is_kernels(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
}

fn directory(path: &Path) -> PathBuf {
    Path::new(DEFAULT_CGROUP_ROOT).join(path.strip_prefix("/").unwrap_or(path))
}

impl Place {
    fn open(&self, id: &str) -> Result<AnyCgroupManager, CgroupError> {
        match get_cgroup_setup() {
            Ok(CgroupSetup::Unified) => {}
            Ok(CgroupSetup::Hybrid | CgroupSetup::Legacy) => return Err(CgroupError::Version1),
            Err(_) => return Err(CgroupError::NotMounted),
        }
        let config = CgroupConfig {
            cgroup_path: self.path.clone().into(),
            systemd_cgroup: self.driver == Driver::Systemd,
            container_name: id.to_owned(),
        };
        create_cgroup_manager(config).map_err(|source| CgroupError::Setup {
            path: self.path.clone(),
            source: Box::new(source),
        })
    }

    fn apply(
        &self,
        manager: &AnyCgroupManager,
        resources: &LinuxResources,
    ) -> Result<(), CgroupError> {
        let options = ControllerOpt {
            resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        manager
            .apply(&options)
            .map_err(|source| self.failed("limit", source))
    }

    fn failed(
        &self,
        action: &'static str,
        source: libcgroups::common::AnyManagerError,
    ) -> CgroupError {
        CgroupError::Change {
            action,
            path: self.path.clone(),
            source: Box::new(source),
        }
    }
}

impl Group {
    /// Makes the cgroup of container `id` around a process, with its limits. The process is this one, or its child.
    pub(super) fn make(
        place: Place,
        id: &str,
        pid: i32,
        limits: &Limits,
    ) -> Result<Self, CgroupError> {
        let manager = place.open(id)?;
        // Without a directory there is nothing in it.
        let count = manager.get_all_pids().map_or(0, |pids| pids.len());
        if count > 0 {
            let path = place.path;
            return Err(CgroupError::Occupied { path, count });
        }
        let is_self = pid == rustix::process::getpid().as_raw_nonzero().get();
        let whereabouts = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let before = path_of(&whereabouts)?;
        // Undoes the following, even half of it.
        let mut group = Self {
            cgroup: HostCgroup { place, dir: None },
            origin: is_self.then(|| before.clone()),
            kept: false,
        };
        let place = &group.cgroup.place;
        manager
            .add_task(Pid::from_raw(pid))
            .map_err(|source| place.failed("make", source))?;
        place.apply(&manager, &limits.initial)?;
        let path = path_of(&whereabouts)?;
        // A process that is ending is not moved, and no error says so: what it is in is not the container's.
        group.cgroup.dir = (path != before).then(|| directory(&path));
        Ok(group)
    }

    /// Limits its processor time.
    pub(super) fn throttle(&self, id: &str, limits: &Limits) -> Result<(), CgroupError> {
        let Some(resources) = &limits.throttle else {
            return Ok(());
        };
        let place = &self.cgroup.place;
        place.apply(&place.open(id)?, resources)
    }

    /// How `state.json` names it.
    pub(crate) fn record(&self) -> HostCgroup {
        self.cgroup.clone()
    }

    /// From here on it goes with the container.
    pub(crate) fn keep(mut self) -> HostCgroup {
        self.kept = true;
        self.cgroup.clone()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let left = self.origin.as_ref().is_none_or(|origin| {
            let procs = directory(origin).join(PROCS);
            fs::write(procs, "0").is_ok()
        });
        // Where it cannot be left, systemd removes it when it is empty. The failure that led here is the one to report.
        if left {
            drop(self.cgroup.kill());
        }
    }
}

impl HostCgroup {
    /// Moves this process into it.
    pub(crate) fn join(&self) -> Result<(), CgroupError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(PROCS);
        fs::write(&path, "0").map_err(|source| CgroupError::File { path, source })
    }

    /// Gives it the limits that are named, for a machine with `guest_mib` of memory.
    pub(crate) fn update(
        &self,
        id: &str,
        resources: &LinuxResources,
        guest_mib: u32,
    ) -> Result<(), CgroupError> {
        let manager = self.place.open(id)?;
        let limits = Limits::of(Some(resources), guest_mib);
        let all = std::iter::once(&limits.initial).chain(&limits.throttle);
        all.into_iter()
            .try_for_each(|limits| self.place.apply(&manager, limits))
    }

    /// It has been made.
    pub(crate) fn is_made(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether a process is in it.
    pub(crate) fn has(&self, pid: i32) -> bool {
        let path = path_of(&PathBuf::from(format!("/proc/{pid}/cgroup")));
        let (Some(dir), Ok(path)) = (&self.dir, path) else {
            return false;
        };
        directory(&path) == *dir
    }

    /// Moves what outlives it into another, or out of all of them: the machine, and the threads that the kernel has for it, which
    /// are processes of their own (KVM's one that looks after large pages).
    pub(crate) fn hand_over(&self, machine: i32, heir: Option<&Self>) -> Result<(), CgroupError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let own = dir.join(PROCS);
        let all =
            fs::read_to_string(&own).map_err(|source| CgroupError::File { path: own, source })?;
        let heir = heir.and_then(|heir| heir.dir.as_deref());
        let path = heir.unwrap_or(Path::new(DEFAULT_CGROUP_ROOT)).join(PROCS);
        let machine = machine.to_string();
        for pid in all.lines().filter(|pid| *pid == machine || is_kernels(pid)) {
            match fs::write(&path, pid) {
                // It has just ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                outcome => outcome.map_err(|source| CgroupError::File {
                    path: path.clone(),
                    source,
                })?,
            }
        }
        Ok(())
    }

    /// Moves a process into it.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        match &self.dir {
            Some(dir) => fs::write(dir.join(PROCS), pid.to_string()),
            None => Ok(()),
        }
    }

    /// Lets its processes have all the time that the host has: those of a container that has ended are to end soon.
    pub(crate) fn unthrottle(&self) {
        if let Some(dir) = &self.dir {
            // It may have no limit, nor the file for one.
            drop(fs::write(dir.join("cpu.max"), "max"));
        }
    }

    /// Removes it; what is still in it is killed. To be called when the container's own processes have been ended.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        match (self.remove_empty(END_LIMIT), &self.dir) {
            (Err(CgroupError::Busy { .. }), Some(_)) => self.kill(),
            // It was never made by this container: what is in it is not its own.
            (outcome, _) => outcome,
        }
    }

    /// Kills what is in it, and removes it.
    fn kill(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.directory() {
            let path = dir.join("cgroup.kill");
            match fs::write(&path, "1") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(|source| CgroupError::File { path, source })?,
            }
        }
        self.remove_empty(KILL_LIMIT)
    }

    fn directory(&self) -> Option<PathBuf> {
        match (&self.dir, self.place.driver) {
            (Some(dir), _) => Some(dir.clone()),
            (None, Driver::Cgroupfs) => Some(directory(Path::new(&self.place.path))),
            // A scope of systemd ends with its last process.
            (None, Driver::Systemd) => None,
        }
    }

    /// Removes it as soon as it has no processes.
    fn remove_empty(&self, limit: Duration) -> Result<(), CgroupError> {
        let Some(dir) = self.directory() else {
            return Ok(());
        };
        let end = Instant::now() + limit;
        loop {
            match fs::remove_dir(&dir) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(source) => return Err(CgroupError::File { path: dir, source }),
            }
            if Instant::now() > end {
                return Err(CgroupError::Busy { path: dir });
            }
            thread::sleep(PAUSE);
        }
    }
}
