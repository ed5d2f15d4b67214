//! The directory of one sandbox: what belongs to the machine and not to one container in it.
//!
//! ```text
//! <root>/@<random>/           a name that is no container's id
//!     sandbox.json            config of the virtual machine        vmm.log      what husk-vmm says
//!     v, v_1026               sockets to and from the guest        console.log  the guest's serial port
//!     life                    FIFO: husk-vmm reads, every monitor of the sandbox holds it open for writing
//! <root>/<container>/s        symbolic link to it
//! ```
//!
//! `life` says twice who lives in the sandbox. `husk-vmm` ends when it has no writer any more, however the monitors ended. And
//! each monitor holds a shared lock on it: who gets the exclusive lock is the last, and nobody can join any more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};
use rustix::io::Errno;

use super::{ContainerDir, Root, StateError};
use crate::state::dir::failed;

/// Link in a container's directory to its sandbox's. One byte, because a socket's path below it has at most 107.
const LINK: &str = "s";

/// The FIFO that everybody who lives in a sandbox has open.
pub(crate) const LIFE: &str = "life";

/// First character of a sandbox's directory; no container id contains it.
const MARK: char = '@';

/// The directory of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxDir {
    path: PathBuf,
}

/// The hold that a monitor has on its sandbox: the machine does not end while this exists.
#[derive(Debug)]
pub(crate) struct Life {
    writer: File,
}

/// The exclusive hold of whoever is last in a sandbox.
#[derive(Debug)]
pub(crate) struct LastHold(#[expect(dead_code, reason = "its lock is what counts")] File);

impl SandboxDir {
    /// Makes the directory of a new sandbox, with `container` in it. Gives the end of the lifeline that is `husk-vmm`'s.
    pub(crate) fn create(
        root: &Root,
        container: &ContainerDir,
    ) -> Result<(Self, Life, File), StateError> {
        let name = random_name().map_err(failed("name", container.path()))?;
        let path = root.path().join(&name);
        let dir = Self { path };
        // The link first: whatever happens now, deleting the container finds what there is of the sandbox.
        dir.link(container)?;
        let mut builder = DirBuilder::new();
        let made = builder.mode(0o700).create(&dir.path);
        made.map_err(failed("make", &dir.path))?;
        let life = dir.file(LIFE);
        let at_life = |errno: Errno| failed("make", &life)(errno.into());
        mknodat(CWD, &life, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(at_life)?;
        // The reader first: opening for writing alone fails without one.
        let reader = open(&life, OFlags::RDONLY).map_err(at_life)?;
        let writer = dir.hold()?;
        let reader = reader.ok_or_else(|| at_life(Errno::NXIO))?;
        let writer = writer.ok_or_else(|| at_life(Errno::NXIO))?;
        Ok((dir, writer, reader))
    }

    /// The sandbox of a container, if it has one.
    pub(crate) fn of(container: &Path) -> Option<Self> {
        let target = fs::read_link(container.join(LINK)).ok()?;
        let name = target.file_name()?.to_str()?;
        let root = container.parent()?;
        name.starts_with(MARK).then(|| Self {
            path: root.join(name),
        })
    }

    /// Puts `container` into the sandbox on disk.
    pub(crate) fn link(&self, container: &ContainerDir) -> Result<(), StateError> {
        let link = container.file(LINK);
        let name = self.path.file_name().unwrap_or_default();
        symlink(Path::new("..").join(name), &link).map_err(failed("make", &link))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Holds the sandbox; nothing if it is ending or has ended.
    pub(crate) fn hold(&self) -> Result<Option<Life>, StateError> {
        let life = self.file(LIFE);
        let Some(writer) = open(&life, OFlags::WRONLY).map_err(at(&life))? else {
            return Ok(None);
        };
        let locked = try_lock(&writer, FlockOperation::NonBlockingLockShared).map_err(at(&life))?;
        Ok(locked.then_some(Life { writer }))
    }

    /// Ends the sandbox for everybody who might want to join; nothing if somebody lives in it.
    pub(crate) fn hold_last(&self) -> Result<Option<LastHold>, StateError> {
        let life = self.file(LIFE);
        let Some(file) = open(&life, OFlags::RDONLY).map_err(at(&life))? else {
            // Not even half made: the link was the first step.
            return File::open(&self.path)
                .map(|dir| Some(LastHold(dir)))
                .or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(None),
                    _ => Err(failed("open", &self.path)(error)),
                });
        };
        let locked =
            try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(at(&life))?;
        Ok(locked.then_some(LastHold(file)))
    }

    /// Removes the directory and everything in it.
    pub(crate) fn remove(self, _last: LastHold) -> Result<(), StateError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(failed("remove", &self.path)),
        }
    }
}

impl Life {
    /// Whether nobody else lives in the sandbox. The first who asks and is told so ends it: from then on nobody can join.
    pub(crate) fn is_last(&self) -> bool {
        // A lock that cannot be had for another reason leaves the machine to the lifeline.
        try_lock(&self.writer, FlockOperation::NonBlockingLockExclusive).unwrap_or(false)
    }
}

impl AsFd for Life {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

fn at(path: &Path) -> impl Fn(Errno) -> StateError {
    move |errno| failed("open", path)(errno.into())
}

/// Opens a FIFO without waiting for its other end; nothing if there is no FIFO, or no other end where one is needed.
fn open(path: &Path, mode: OFlags) -> Result<Option<File>, Errno> {
    let flags = mode | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(Errno::NXIO | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn try_lock(file: &File, operation: FlockOperation) -> Result<bool, Errno> {
    match rustix::io::retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn random_name() -> io::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{MARK}{:016x}", u64::from_le_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_readable;
    use crate::state::ContainerId;
    use std::time::Duration;

    fn root() -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path()).unwrap();
        (temp, root)
    }

    fn container(root: &Root, id: &str) -> ContainerDir {
        ContainerDir::create(root, &ContainerId::parse(id).unwrap()).unwrap()
    }

    #[test]
    fn a_sandbox_is_found_from_its_containers_and_is_no_container() {
        let (_temp, root) = root();
        let (first, second) = (container(&root, "a"), container(&root, "b"));
        let (sandbox, _life, _reader) = SandboxDir::create(&root, &first).unwrap();
        sandbox.link(&second).unwrap();
        assert_eq!(SandboxDir::of(first.path()).unwrap(), sandbox);
        assert_eq!(SandboxDir::of(second.path()).unwrap(), sandbox);
        assert!(fs::metadata(first.file("s/life")).is_ok());
        assert_eq!(root.ids().unwrap().len(), 2);
        assert!(SandboxDir::of(&root.path().join("c")).is_none());
    }

    #[test]
    fn the_last_one_ends_the_sandbox() {
        let (_temp, root) = root();
        let (sandbox, first, _reader) = SandboxDir::create(&root, &container(&root, "a")).unwrap();
        let second = sandbox.hold().unwrap().unwrap();
        assert!(sandbox.hold_last().unwrap().is_none());
        assert!(!first.is_last());
        assert!(second.is_last());
        assert!(sandbox.hold().unwrap().is_none(), "joined at the end");
        drop((first, second));
        let last = sandbox.hold_last().unwrap().unwrap();
        assert!(
            sandbox.hold().unwrap().is_none(),
            "joined while it is removed"
        );
        sandbox.clone().remove(last).unwrap();
        assert!(sandbox.hold().unwrap().is_none());
        assert!(sandbox.hold_last().unwrap().is_none());
    }

    #[test]
    fn the_lifeline_ends_with_its_last_writer() {
        let (_temp, root) = root();
        let (sandbox, first, reader) = SandboxDir::create(&root, &container(&root, "a")).unwrap();
        let second = sandbox.hold().unwrap();
        drop(first);
        assert!(!wait_readable(reader.as_fd(), Duration::ZERO));
        drop(second);
        assert!(wait_readable(reader.as_fd(), Duration::ZERO));
    }

    #[test]
    fn without_a_machine_there_is_nothing_to_hold() {
        let (_temp, root) = root();
        let (sandbox, life, reader) = SandboxDir::create(&root, &container(&root, "a")).unwrap();
        drop((life, reader));
        assert!(sandbox.hold().unwrap().is_none());
    }

    #[test]
    fn a_half_made_sandbox_can_be_removed() {
        let (_temp, root) = root();
        let first = container(&root, "a");
        let sandbox = SandboxDir {
            path: root.path().join("@1"),
        };
        sandbox.link(&first).unwrap();
        assert!(sandbox.hold_last().unwrap().is_none());
        fs::create_dir(sandbox.path()).unwrap();
        let last = sandbox.hold_last().unwrap().unwrap();
        sandbox.clone().remove(last).unwrap();
        assert!(!sandbox.path().exists());
    }
}
