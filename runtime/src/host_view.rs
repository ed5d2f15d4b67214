//! The container's files as the host sees them: the mount namespace of a monitor.
//!
//! Engines enter the mount namespace of the "init pid" to reach a container's files (`podman cp`, `nsenter -t PID -m`). For a husk
//! that process is the monitor, so the monitor gets a namespace with the container's root file system as its root and the bind
//! mounts at their places. What exists only in the guest (`/proc`, a tmpfs) is an empty, read-only directory here: a copy into it
//! fails, instead of going to the host or to what the guest's mount hides.
//!
//! The monitor itself goes on with the host's root, which it had opened before: only who enters its namespace by
//! `/proc/PID/ns/mnt` sees the view. It dies with the monitor.

#![expect(unsafe_code, reason = "unshare; the process has a single thread")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, mkdirat, open,
    openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chroot, fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::binds::{BindError, Source, is_bind, is_read_only, is_recursive, source};
use crate::bundle::Bundle;

/// The tmpfs that stands for a mount of the guest: room for mount points, and no more.
const BLANK_OPTIONS: [(&str, &str); 3] = [("size", "64k"), ("nr_inodes", "1024"), ("mode", "0755")];

/// Why there is no view of a container's files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostViewError {
    /// A step that concerns no single mount.
    #[error("cannot {step} for the host's view of the container's files")]
    Namespace {
        /// The step.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source of a bind mount.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// One of the container's mounts.
    #[error("cannot show the host field \"mounts[{index}]\", {destination}")]
    Mount {
        /// Its place in `mounts`.
        index: usize,
        /// Where it belongs, in the container.
        destination: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// This process's mount namespace is the view. Dropping it brings the process back to where it was.
#[derive(Debug)]
pub(crate) struct HostView {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl HostView {
    /// Gives this process the namespace. The container's mount points exist: the guest has made them.
    pub(crate) fn enter(bundle: &Bundle) -> Result<Self, HostViewError> {
        let step = |step| {
            move |errno: Errno| HostViewError::Namespace {
                step,
                source: errno.into(),
            }
        };
        let flags = OFlags::CLOEXEC | OFlags::RDONLY;
        let namespace = open("/proc/self/ns/mnt", flags, Mode::empty());
        let view = Self {
            namespace: namespace.map_err(step("open the mount namespace"))?,
            root: open("/", flags | OFlags::DIRECTORY, Mode::empty())
                .map_err(step("open the root"))?,
        };
        // SAFETY: only the mount namespace changes, and this process has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(step("make a mount namespace"))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(step("end the propagation of mounts"))?;
        let tree = Tree::build(bundle)?;
        tree.become_root().map_err(step("change the root"))?;
        view.return_to_root().map_err(step("return to the root"))?;
        Ok(view)
    }

    /// Makes the host's root, and its directory `/`, this process's own again. Its namespace stays.
    fn return_to_root(&self) -> rustix::io::Result<()> {
        fchdir(&self.root)?;
        chroot(".")
    }
}

impl Drop for HostView {
    fn drop(&mut self) {
        // Both have been this process's before. Without them it still works: it only cannot mount.
        let back =
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount));
        let _outcome = back.and_then(|()| self.return_to_root());
    }
}

/// The container's root file system, mounted, with mounts on it.
struct Tree {
    root: OwnedFd,
    /// Stand-ins for mounts of the guest, writable as long as mount points are made in them.
    blanks: Vec<OwnedFd>,
}

impl Tree {
    fn build(bundle: &Bundle) -> Result<Self, HostViewError> {
        let failed = |errno: Errno| HostViewError::Namespace {
            step: "mount the root file system",
            source: errno.into(),
        };
        let root = copy(&bundle.rootfs, true).map_err(failed)?;
        // Anywhere in the namespace will do, until it becomes the root.
        place(&root, CWD, &bundle.rootfs).map_err(failed)?;
        let mut tree = Self {
            root,
            blanks: Vec::new(),
        };
        for (index, mount) in bundle.spec.mounts().iter().flatten().enumerate() {
            let added = match is_bind(mount) {
                true => match source(mount, index, bundle)? {
                    // The host's device is as good as the guest's own.
                    Source::Host(path) | Source::Guest(path) => tree.add_bind(mount, &path),
                },
                false => tree.add_blank(mount.destination()),
            };
            added.map_err(|errno| HostViewError::Mount {
                index,
                destination: mount.destination().clone(),
                source: errno.into(),
            })?;
        }
        let sealed = tree.blanks.iter().try_for_each(read_only);
        sealed.map_err(failed)?;
        let root = bundle.spec.root().as_ref();
        if root.and_then(|root| root.readonly()).unwrap_or(false) {
            read_only(&tree.root).map_err(failed)?;
        }
        Ok(tree)
    }

    fn add_bind(&mut self, mount: &Mount, source: &Path) -> rustix::io::Result<()> {
        let copied = copy(source, is_recursive(mount))?;
        let directory = is_directory(&copied)?;
        let point = self.point(mount.destination(), directory)?;
        place(&copied, point.as_fd(), Path::new(""))?;
        if is_read_only(mount) {
            read_only(&copied)?;
        }
        Ok(())
    }

    fn add_blank(&mut self, destination: &Path) -> rustix::io::Result<()> {
        let point = self.point(destination, true)?;
        let blank = blank()?;
        place(&blank, point.as_fd(), Path::new(""))?;
        self.blanks.push(blank);
        Ok(())
    }

    /// What `destination` is in the tree now; links are resolved in it. Missing mount points are made in stand-ins, nowhere else.
    fn point(&self, destination: &Path, directory: bool) -> rustix::io::Result<OwnedFd> {
        match self.find(destination) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let mut here = PathBuf::from("/");
        let mut parent = self.find(&here)?;
        let parts: Vec<_> = destination
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        for (index, part) in parts.iter().enumerate() {
            here.push(part);
            parent = match self.find(&here) {
                Err(Errno::NOENT) if self.is_blank(&parent)? => {
                    let directory = directory || index + 1 < parts.len();
                    make(&parent, Path::new(part), directory)?
                }
                found => found?,
            };
        }
        Ok(parent)
    }

    fn find(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn is_blank(&self, directory: &OwnedFd) -> rustix::io::Result<bool> {
        let device = fstat(directory)?.st_dev;
        for blank in &self.blanks {
            if fstat(blank)?.st_dev == device {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn become_root(&self) -> rustix::io::Result<()> {
        fchdir(&self.root)?;
        pivot_root(".", ".")?;
        // The old root is now mounted over the new one.
        unmount(".", UnmountFlags::DETACH)
    }
}

fn copy(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, path, flags)
}

/// An empty tmpfs, still writable.
fn blank() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in BLANK_OPTIONS {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn place(tree: &OwnedFd, base: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", base, path, flags)
}

/// Makes a mount read-only; what it forbids already it goes on to forbid.
fn read_only(mount: &OwnedFd) -> rustix::io::Result<()> {
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    let now = fstatvfs(mount)?.f_flag;
    flags.set(MountFlags::NOSUID, now.contains(StatVfsMountFlags::NOSUID));
    flags.set(MountFlags::NODEV, now.contains(StatVfsMountFlags::NODEV));
    flags.set(MountFlags::NOEXEC, now.contains(StatVfsMountFlags::NOEXEC));
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    mount_remount(path, flags, c"")
}

fn make(parent: &OwnedFd, name: &Path, directory: bool) -> rustix::io::Result<OwnedFd> {
    if directory {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        return openat(parent, name, flags, Mode::empty());
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(parent, name, flags, Mode::from_raw_mode(0o644))
}

fn is_directory(tree: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(tree)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    //! Needs root. Each case enters its namespaces in threads of its own.

    use super::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::thread;

    fn bundle(dir: &Path, mounts: &serde_json::Value, read_only: bool) -> Bundle {
        let rootfs = dir.join("rootfs");
        for name in ["data", "proc", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::create_dir_all(dir.join("volume")).unwrap();
        fs::write(dir.join("volume/file"), "volume's").unwrap();
        fs::write(rootfs.join("single"), "").unwrap();
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs", "readonly": read_only},
            "mounts": mounts,
        });
        Bundle {
            dir: dir.to_owned(),
            rootfs,
            spec: serde_json::from_value(spec).unwrap(),
            unknown: Vec::new(),
        }
    }

    /// What `look` sees from the namespace of a process that has the view, while that one sees the host.
    fn seen<T: Send>(bundle: &Bundle, look: impl Fn() -> T + Send) -> T {
        let (to_looker, tid) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let before = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
                let view = HostView::enter(bundle).unwrap();
                assert!(bundle.dir.join("volume/file").exists());
                assert_ne!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), before);
                to_looker.send(rustix::thread::gettid()).unwrap();
                let _closed = wait.recv();
                drop(view);
                assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), before);
                assert!(bundle.dir.join("volume/file").exists());
            });
            let looker = scope.spawn(move || {
                let tid = tid.recv().unwrap();
                let path = format!("/proc/{}/ns/mnt", tid.as_raw_nonzero());
                let namespace = fs::File::open(path).unwrap();
                // SAFETY: this thread ends with `look`, and shares its working directory with nobody afterwards.
                unsafe { unshare_unsafe(UnshareFlags::FS) }.unwrap();
                let kind = Some(LinkNameSpaceType::Mount);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                look()
            });
            let outcome = looker.join().unwrap();
            drop(done);
            outcome
        })
    }

    #[test]
    fn who_enters_the_namespace_sees_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/data", "type": "bind", "source": "volume", "options": ["rbind"]},
            {"destination": "/dev/deep/shm", "type": "bind", "source": "volume", "options": ["ro"]},
            {"destination": "/single", "type": "bind", "source": "volume/file"},
        ]);
        let bundle = bundle(dir.path(), &mounts, false);
        let denied = |path: &str| fs::write(path, "").unwrap_err().raw_os_error();
        seen(&bundle, || {
            assert_eq!(fs::read_to_string("/data/file").unwrap(), "volume's");
            assert_eq!(fs::read_to_string("/single").unwrap(), "volume's");
            fs::write("/data/new", "").unwrap();
            fs::write("/tmp/new", "").unwrap();
            assert_eq!(denied("/dev/deep/shm/x"), Some(libc::EROFS));
            assert_eq!(denied("/dev/x"), Some(libc::EROFS));
            assert_eq!(denied("/proc/x"), Some(libc::EROFS));
            assert!(!Path::new("/etc/passwd").exists());
        });
        assert!(dir.path().join("volume/new").exists());
        assert!(dir.path().join("rootfs/tmp/new").exists());
        assert!(!dir.path().join("rootfs/dev/deep").exists());
    }

    #[test]
    fn links_of_the_container_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let mounts = json!([
            {"destination": "/link/inside", "type": "bind", "source": "volume", "options": ["bind"]},
        ]);
        let bundle = bundle(dir.path(), &mounts, true);
        symlink(&outside, bundle.rootfs.join("link")).unwrap();
        let inside = bundle.rootfs.join(outside.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.join("inside")).unwrap();
        seen(&bundle, || {
            assert_eq!(fs::read_to_string("/link/inside/file").unwrap(), "volume's");
            assert!(fs::write("/tmp/x", "").is_err());
        });
    }

    #[test]
    fn a_mount_without_a_mount_point_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = json!([{"destination": "/missing", "type": "bind", "source": "volume"}]);
        let bundle = bundle(dir.path(), &mounts, false);
        let error = thread::scope(|scope| {
            scope
                .spawn(|| HostView::enter(&bundle).unwrap_err().to_string())
                .join()
                .unwrap()
        });
        assert!(
            error.contains("mounts[0]") && error.contains("/missing"),
            "{error}"
        );
    }
}
