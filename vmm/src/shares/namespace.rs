//! Leaves the host's mount namespace for one of the VMM's own.
#![expect(
    unsafe_code,
    reason = "unshare can part a thread from what others share with it"
)]

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::mount::{Attributes, Tree};
use super::running::put;
use super::{ATTACH, PROC_FDS, SHARES, Share, ShareError, Source, VSOCK, at};

/// Most shares of one sandbox: bounds the tmpfs of mount points.
const MAX_SHARES: &str = "4096";

/// What the namespace is to hold.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Shares present from the start.
    pub(crate) shares: Vec<Share>,
    /// The directory of the vsock sockets.
    pub(crate) vsock: Option<Source>,
}

const SEALED: Attributes = Attributes {
    read_only: true,
    no_exec: true,
};

/// Enters a new namespace with nothing in it but `layout`. Afterwards no path of the host resolves.
///
/// To be called by the only thread of the process, with `CAP_SYS_ADMIN`, when all else is open that is opened by path: kernel,
/// disks, logs, `/dev/kvm`, the API socket, `FsDevice::new` (which opens `/proc/self`). The served directory
/// itself, [`SHARES`], is opened by the fs thread later, when the guest mounts it.
pub(crate) fn enter(layout: &Layout) -> Result<(), ShareError> {
    // Copies can be made only from the namespace that is being left.
    let shares = layout
        .shares
        .iter()
        .map(|share| Ok((share, share.copy()?)))
        .collect::<Result<Vec<_>, ShareError>>()?;
    let vsock = layout
        .vsock
        .as_ref()
        .map(|source| source.copy(false))
        .transpose()?;
    let fds = own_descriptors().map_err(at("copy the mount of /proc/self/fd"))?;

    // SAFETY: a new mount namespace unshares the working and root directory too, which no other thread relies upon.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(at("make a mount namespace"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(at("make mounts private"))?;

    let root = empty_root().map_err(at("make an empty root"))?;
    for (share, tree) in &shares {
        put(root.root(), share, tree)?;
    }
    fds.place_at(root.root(), relative(PROC_FDS))
        .map_err(at("mount /proc/self/fd"))?;
    if let Some(vsock) = vsock {
        vsock
            .place_at(root.root(), relative(VSOCK))
            .map_err(at("mount /vsock"))?;
    }
    leave_host(&root).map_err(at("leave the host's root"))
}

fn own_descriptors() -> rustix::io::Result<Tree> {
    let tree = Tree::copy(CWD, PROC_FDS, OpenTreeFlags::empty())?;
    tree.restrict(SEALED)?;
    Ok(tree)
}

/// A tmpfs with the mount points of the module's picture, `/attach` and `/shares` mounted.
fn empty_root() -> rustix::io::Result<Tree> {
    let root = Tree::tmpfs(&[("size", "64k"), ("nr_inodes", "16"), ("mode", "0755")])?;
    for directory in [ATTACH, SHARES, VSOCK, "/proc", "/proc/self", PROC_FDS] {
        mkdirat(root.root(), relative(directory), Mode::from_raw_mode(0o755))?;
    }
    // Somewhere in the tree, so that mounts can be put on it: over the root that is being left.
    root.place("/")?;
    let points = Tree::tmpfs(&[("size", "0"), ("nr_inodes", MAX_SHARES), ("mode", "0755")])?;
    points.place_at(root.root(), relative(ATTACH))?;
    let twin = Tree::copy(root.root(), relative(ATTACH), OpenTreeFlags::empty())?;
    twin.restrict(SEALED)?;
    twin.place_at(root.root(), relative(SHARES))?;
    Ok(root)
}

fn leave_host(root: &Tree) -> rustix::io::Result<()> {
    fchdir(root.root())?;
    pivot_root(".", ".")?;
    // The old root is now mounted over the new one.
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    root.restrict(SEALED)
}

/// `path` as seen from the root's descriptor.
fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
