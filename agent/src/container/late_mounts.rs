//! What libcontainer leaves out of a container's mounts, and the helper adds once the container exists: contents that
//! a tmpfs takes over from below (`tmpcopyup`), synchronous file systems, and propagation.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_reconfigure,
    fsconfig_set_flag, fspick, mount_change, mount_remount, open_tree,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::copy;

/// What is left to do for one mount.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LateMount {
    destination: PathBuf,
    /// Copy what the mount hides into it.
    copy_up: bool,
    /// Make it read-only after that.
    read_only: bool,
    /// `sync`, `dirsync`: options of the file system, not of the mount.
    flags: Vec<String>,
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
    let mut before: Vec<PathBuf> = Vec::new();
    for mount in mounts.into_iter().flatten() {
        let text = |field| mount.get(field).and_then(Value::as_str).map(str::to_owned);
        let kind = text("type").unwrap_or_default();
        let destination = Path::new("/").join(text("destination").unwrap_or_default());
        if text("source").is_none_or(|source| source.is_empty()) && !kind.is_empty() {
            mount["source"] = json!(kind);
        }
        let left = take_options(mount, kind == "tmpfs", &destination);
        if kind == "tmpfs" && !before.iter().any(|other| covers(other, &destination)) {
            keep_mode(mount, &root, &destination);
        }
        late.extend(left);
        before.push(destination);
    }
    late
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
    options.retain(|option| match option.as_str() {
        Some("tmpcopyup") => !is_tmpfs,
        Some("ro") => !late.read_only,
        Some(flag @ ("sync" | "dirsync")) if !is_bind => {
            late.flags.push(flag.to_owned());
            false
        }
        Some(option) if propagation(option).is_some() => {
            late.propagation = Some(option.to_owned());
            false
        }
        _ => true,
    });
    let nothing = !late.copy_up && late.flags.is_empty() && late.propagation.is_none();
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

/// Does it, in the mount namespace of the container. `descriptors` is the directory `/proc/self/fd`, opened before.
pub(super) fn finish(late: &[LateMount], descriptors: &OwnedFd) -> Result<(), LateMountError> {
    late.iter().try_for_each(|mount| mount.finish(descriptors))
}

impl LateMount {
    fn finish(&self, descriptors: &OwnedFd) -> Result<(), LateMountError> {
        let target = open_root(Path::new("/")).and_then(|root| open(root, &self.destination));
        let target = target.map_err(|source| LateMountError::Open {
            path: self.destination.clone(),
            source,
        })?;
        if self.copy_up {
            self.copy_up(&target)?;
        }
        if self.read_only {
            let outcome = make_read_only(&target, descriptors);
            outcome.map_err(|source| self.failed("ro", source))?;
        }
        for flag in &self.flags {
            let outcome = reconfigure(&target, flag);
            outcome.map_err(|source| self.failed(flag, source))?;
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

fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Without following a link out of `root`.
fn open(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
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

fn reconfigure(target: &OwnedFd, flag: &str) -> Result<(), Errno> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let picked = fspick(target, "", flags)?;
    fsconfig_set_flag(picked.as_fd(), flag)?;
    fsconfig_reconfigure(picked.as_fd())
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
        assert_eq!(spec["mounts"][2]["options"], json!(["mode=700"]));
        assert_eq!(late.len(), 2);
        assert_eq!(late[0].propagation.as_deref(), Some("rslave"));
        assert!(late[1].copy_up && late[1].read_only);
        assert_eq!(late[1].flags, ["sync"]);
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
