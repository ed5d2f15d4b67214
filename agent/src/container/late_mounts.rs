//! What libcontainer leaves out of a container's mounts, and the helper adds once the container exists: contents that
//! a tmpfs takes over from below (`tmpcopyup`), and propagation.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, mount_remount,
    move_mount, open_tree,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::copy;
use super::links::{dangling, open, open_root};

/// What is left to do for one mount.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LateMount {
    destination: PathBuf,
    /// Mount this directory of the guest there: its devices, among which libcontainer could not make others.
    source: Option<PathBuf>,
    /// Copy what the mount hides into it.
    copy_up: bool,
    /// Make it read-only after that.
    read_only: bool,
    /// `rshared`, `slave`, ...
    propagation: Option<String>,
}

/// Why a mount is not what the spec says.
#[derive(Debug, thiserror::Error)]
pub(super) enum LateMountError {
    /// The mount's directory or file is not there any more.
    #[error("cannot open {path}")]
    Open {
        /// Its destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// An option cannot be applied.
    #[error("cannot apply option {option:?} to mount {path}")]
    Option {
        /// The option.
        option: String,
        /// Its destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// Contents cannot be copied.
    #[error("cannot copy what is below {path} into the tmpfs")]
    CopyUp {
        /// Its destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: copy::CopyError,
    },
}

/// Takes out of the spec's mounts what libcontainer would refuse or ignore, and completes what it wants to be told.
pub(super) fn take(spec: &mut Value) -> Vec<LateMount> {
    let root = spec.pointer("/root/path").and_then(Value::as_str);
    let root = PathBuf::from(root.unwrap_or("/"));
    let mounts = spec.get_mut("mounts").and_then(Value::as_array_mut);
    let mut late = Vec::new();
    if let Some(mounts) = mounts {
        late.extend(take_devices(mounts));
        take_each(mounts, &root, &mut late);
    }
    late
}

/// Binds of the guest's `/dev` to the container's.
fn take_devices(mounts: &mut Vec<Value>) -> Vec<LateMount> {
    let mut late = Vec::new();
    mounts.retain(|mount| {
        let is = |field: &str| mount.get(field).and_then(Value::as_str) == Some("/dev");
        let taken = is("source") && is("destination");
        if taken {
            let options = mount.get("options").and_then(Value::as_array);
            late.push(LateMount {
                destination: "/dev".into(),
                source: Some("/dev".into()),
                read_only: options.into_iter().flatten().any(|option| option == "ro"),
                ..LateMount::default()
            });
        }
        !taken
    });
    late
}

fn take_each(mounts: &mut [Value], root: &Path, late: &mut Vec<LateMount>) {
    let mut before: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let text =
            |mount: &Value, field| mount.get(field).and_then(Value::as_str).map(str::to_owned);
        let kind = text(mount, "type").unwrap_or_default();
        let mut destination = Path::new("/").join(text(mount, "destination").unwrap_or_default());
        let covered = before.iter().any(|other| covers(other, &destination));
        if !covered && let Some(target) = dangling(root, &destination) {
            mount["destination"] = json!(target);
            destination = target;
        }
        if text(mount, "source").is_none_or(|source| source.is_empty()) && !kind.is_empty() {
            mount["source"] = json!(kind);
        }
        let left = take_options(mount, kind == "tmpfs", &destination);
        if kind == "tmpfs" && !covered {
            keep_mode(mount, root, &destination);
        }
        late.extend(left);
        before.push(destination);
    }
}

fn covers(mount: &Path, path: &Path) -> bool {
    mount != Path::new("/") && path.starts_with(mount)
}

fn take_options(mount: &mut Value, is_tmpfs: bool, destination: &Path) -> Option<LateMount> {
    let options = mount.get_mut("options").and_then(Value::as_array_mut)?;
    let has = |name: &str| options.iter().any(|option| option == name);
    let is_bind = has("bind") || has("rbind");
    let mut late = LateMount {
        destination: destination.to_owned(),
        copy_up: is_tmpfs && has("tmpcopyup"),
        ..LateMount::default()
    };
    late.read_only = late.copy_up && has("ro");
    if !is_bind {
        // Of the file system, not of the mount: libcontainer leaves to the kernel what it does not know, as this form.
        for option in options
            .iter_mut()
            .filter(|option| *option == "sync" || *option == "dirsync")
        {
            *option = json!(format!("{}=", option.as_str().unwrap_or_default()));
        }
    }
    options.retain(|option| match option.as_str() {
        Some("tmpcopyup") => !is_tmpfs,
        Some("ro") => !late.read_only,
        Some(option) if propagation(option).is_some() => {
            late.propagation = Some(option.to_owned());
            false
        }
        _ => true,
    });
    let nothing = !late.copy_up && late.propagation.is_none();
    (!nothing).then_some(late)
}

/// Without a mode of its own, a tmpfs has that of the directory that it is mounted on.
fn keep_mode(mount: &mut Value, root: &Path, destination: &Path) {
    let has_mode = |option: &Value| option.as_str().is_some_and(|o| o.starts_with("mode="));
    if mount["options"]
        .as_array()
        .into_iter()
        .flatten()
        .any(has_mode)
    {
        return;
    }
    let directory = open_root(root).and_then(|root| open(root, destination));
    // One that does not exist yet will be made with this mode.
    let mode = match directory.and_then(rustix::fs::fstat) {
        Ok(stat) => stat.st_mode & 0o7777,
        Err(_) => 0o755,
    };
    let option = json!(format!("mode={mode:o}"));
    match mount.get_mut("options").and_then(Value::as_array_mut) {
        Some(options) => options.push(option),
        None => mount["options"] = json!([option]),
    }
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (recursive, kind) = match option.strip_prefix('r') {
        Some(kind) if kind != "w" && kind != "o" => (MountPropagationFlags::REC, kind),
        _ => (MountPropagationFlags::empty(), option),
    };
    let kind = match kind {
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "private" => MountPropagationFlags::PRIVATE,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// What the guest's mount namespace has for each: to be opened there.
pub(super) fn open_sources(late: &[LateMount]) -> Result<Vec<Option<OwnedFd>>, LateMountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let open = |path: &PathBuf| {
        open_tree(CWD, path, flags).map_err(|source| LateMountError::Open {
            path: path.clone(),
            source,
        })
    };
    let opened = late
        .iter()
        .map(|mount| mount.source.as_ref().map(open).transpose());
    opened.collect()
}

/// Does it, in the mount namespace of the container. `descriptors` is the directory `/proc/self/fd`, opened before.
pub(super) fn finish(
    late: &[LateMount],
    sources: &[Option<OwnedFd>],
    descriptors: &OwnedFd,
) -> Result<(), LateMountError> {
    let mut both = late.iter().zip(sources);
    both.try_for_each(|(mount, source)| mount.finish(source.as_ref(), descriptors))
}

impl LateMount {
    fn finish(
        &self,
        source: Option<&OwnedFd>,
        descriptors: &OwnedFd,
    ) -> Result<(), LateMountError> {
        let mut target = self.open()?;
        if let Some(tree) = source {
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            let outcome = move_mount(tree, "", &target, "", flags);
            outcome.map_err(|source| self.failed("bind", source))?;
            target = self.open()?;
        }
        if self.copy_up {
            self.copy_up(&target)?;
        }
        if self.read_only {
            let outcome = make_read_only(&target, descriptors);
            outcome.map_err(|source| self.failed("ro", source))?;
        }
        if let Some(option) = &self.propagation
            && let Some(flags) = propagation(option)
        {
            let outcome = rustix::process::fchdir(descriptors)
                .and_then(|()| mount_change(target.as_raw_fd().to_string(), flags));
            outcome.map_err(|source| self.failed(option, source))?;
        }
        Ok(())
    }

    fn open(&self) -> Result<OwnedFd, LateMountError> {
        let target = open_root(Path::new("/")).and_then(|root| open(root, &self.destination));
        target.map_err(|source| LateMountError::Open {
            path: self.destination.clone(),
            source,
        })
    }

    fn failed(&self, option: &str, source: Errno) -> LateMountError {
        LateMountError::Option {
            option: option.to_owned(),
            path: self.destination.clone(),
            source,
        }
    }

    /// The root's mount alone, without what is mounted in it, still shows what is below.
    fn copy_up(&self, target: &OwnedFd) -> Result<(), LateMountError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let below = open_tree(CWD, "/", flags).and_then(|root| open(root, &self.destination));
        let below = match below {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|source| LateMountError::Open {
                path: self.destination.clone(),
                source,
            })?,
        };
        copy::contents(&below, target).map_err(|source| LateMountError::CopyUp {
            path: self.destination.clone(),
            source,
        })
    }
}

fn make_read_only(target: &OwnedFd, descriptors: &OwnedFd) -> Result<(), Errno> {
    let now = rustix::fs::fstatvfs(target)?.f_flag;
    // Those three have the same numbers in both.
    let kept = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let now = u32::try_from(now.bits()).unwrap_or(u32::MAX);
    let flags = MountFlags::from_bits_truncate(now) & kept;
    rustix::process::fchdir(descriptors)?;
    let flags = flags | MountFlags::RDONLY | MountFlags::BIND;
    mount_remount(target.as_raw_fd().to_string(), flags, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libcontainer_cannot_do_is_taken_out() {
        let mut spec = json!({"root": {"path": "/"}, "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/vol", "type": "bind", "source": "/x", "options": ["rbind", "rw", "rslave"]},
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs",
             "options": ["ro", "tmpcopyup", "sync", "mode=700"]},
        ]});
        let late = take(&mut spec);
        assert_eq!(spec["mounts"][0]["source"], "proc");
        assert_eq!(spec["mounts"][1]["options"], json!(["rbind", "rw"]));
        assert_eq!(spec["mounts"][2]["options"], json!(["sync=", "mode=700"]));
        assert_eq!(late.len(), 2);
        assert_eq!(late[0].propagation.as_deref(), Some("rslave"));
        assert!(late[1].copy_up && late[1].read_only);
    }

    #[test]
    fn a_tmpfs_has_the_mode_of_its_directory() {
        let mut spec = json!({"root": {"path": "/"}, "mounts": [
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/tmp/below", "type": "tmpfs", "source": "tmpfs", "options": []},
        ]});
        assert!(take(&mut spec).is_empty());
        assert_eq!(spec["mounts"][0]["options"], json!(["mode=1777"]));
        assert_eq!(spec["mounts"][1]["options"], json!([]));
    }

    #[test]
    fn the_guests_devices_come_last() {
        let dev =
            json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["ro"]});
        let mut spec = json!({"mounts": [dev]});
        let late = take(&mut spec);
        assert_eq!(spec["mounts"], json!([]));
        assert!(late[0].source.is_some() && late[0].read_only);
    }

    #[test]
    fn only_propagation_is_propagation() {
        for option in ["ro", "rw", "rro", "rbind", "relatime", "remount"] {
            assert_eq!(propagation(option), None, "{option}");
        }
        let rshared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        assert_eq!(propagation("rshared"), Some(rshared));
        assert_eq!(
            propagation("slave"),
            Some(MountPropagationFlags::DOWNSTREAM)
        );
    }
}
