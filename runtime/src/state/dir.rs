//! The directory of one container: made by whoever creates it, locked by whoever changes it, read by anyone.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{Exit, Record, VERSION};
use super::{ContainerId, Status};

/// Largest state file that is read, in bytes: annotations and hooks make up most of it.
const MAX_STATE: u64 = 4 << 20;

const STATE_FILE: &str = "state.json";
const EXIT_FILE: &str = "exit.json";

/// Why the state cannot be used. The texts for a missing and a duplicate container are runc's: engines look for them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// No such container.
    #[error("container does not exist: {id}")]
    NotFound {
        /// Its id.
        id: String,
    },
    /// The id is taken.
    #[error("container with given ID already exists: {id}")]
    InUse {
        /// The id.
        id: String,
    },
    /// The directory is there, `state.json` is not usable.
    #[error("state of container {id} is damaged ({path}); only delete --force can help")]
    Damaged {
        /// The container's id.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A file or directory of the state cannot be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, StateError>;

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io {
        action,
        path,
        source,
    }
}

/// The directory of all containers (`--root`).
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// The given directory, made absolute.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        std::path::absolute(path).map(Self)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of a container, whether it exists or not.
    pub(crate) fn path_of(&self, id: &ContainerId) -> PathBuf {
        self.0.join(id.as_str())
    }

    /// Ids of all containers, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            outcome => outcome.map_err(failed("read", &self.0))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.0))?;
            ids.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| ContainerId::parse(name).ok()),
            );
        }
        ids.sort();
        Ok(ids)
    }

    /// A container as it is, without its lock.
    pub(crate) fn read(&self, id: &ContainerId) -> Result<(Record, Status)> {
        let path = self.path_of(id);
        let record = read_record(&path, id)?;
        let status = record.status(read_exit(&path));
        Ok((record, status))
    }
}

/// A container's directory, locked for as long as this exists.
#[derive(Debug)]
pub(crate) struct ContainerDir {
    id: ContainerId,
    path: PathBuf,
    lock: File,
}

impl ContainerDir {
    /// Makes the directory; of many who try at once, one succeeds.
    pub(crate) fn create(root: &Root, id: &ContainerId) -> Result<Self> {
        let path = root.path_of(id);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .recursive(true)
            .create(&root.0)
            .map_err(failed("make", &root.0))?;
        match builder.recursive(false).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StateError::InUse { id: id.to_string() });
            }
            outcome => outcome.map_err(failed("make", &path))?,
        }
        // What cannot be locked is given back; a directory with something in it is somebody's by now, and stays.
        Self::lock(root, id).inspect_err(|_| drop(fs::remove_dir(&path)))
    }

    /// Waits for the lock of a container that exists.
    pub(crate) fn lock(root: &Root, id: &ContainerId) -> Result<Self> {
        Self::lock_with(root, id, FlockOperation::LockExclusive)
    }

    /// Takes the lock unless somebody holds it.
    pub(crate) fn try_lock(root: &Root, id: &ContainerId) -> Result<Option<Self>> {
        match Self::lock_with(root, id, FlockOperation::NonBlockingLockExclusive) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    fn lock_with(root: &Root, id: &ContainerId, operation: FlockOperation) -> Result<Self> {
        let path = root.path_of(id);
        let not_found = || StateError::NotFound { id: id.to_string() };
        let lock = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            outcome => outcome.map_err(failed("open", &path))?,
        };
        rustix::io::retry_on_intr(|| flock(&lock, operation))
            .map_err(|errno| failed("lock", &path)(errno.into()))?;
        // Whoever had the lock before may have removed the directory, and another may have made it anew.
        let locked = lock.metadata().map_err(failed("read", &path))?;
        match fs::metadata(&path) {
            Ok(current) if (current.dev(), current.ino()) == (locked.dev(), locked.ino()) => {}
            _ => return Err(not_found()),
        }
        Ok(Self {
            id: id.clone(),
            path,
            lock,
        })
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The record and the status that follows from it.
    pub(crate) fn read(&self) -> Result<(Record, Status)> {
        let record = read_record(&self.path, &self.id)?;
        let status = record.status(read_exit(&self.path));
        Ok((record, status))
    }

    /// Replaces the record.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        replace(&self.path, STATE_FILE, record)
    }

    /// Removes the directory and everything in it.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path))
    }

    /// Gives the lock back now, although a forked process may have a copy of the descriptor.
    pub(crate) fn unlock(self) {
        // A lock that cannot be given back goes with the process.
        let _outcome = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Writes `exit.json`. The monitor alone does that, and needs no lock for it.
pub(crate) fn write_exit(container: &Path, exit: Exit) -> Result<()> {
    replace(container, EXIT_FILE, &exit)
}

fn replace(container: &Path, name: &str, content: &impl Serialize) -> Result<()> {
    let (new, path) = (container.join(format!("{name}.new")), container.join(name));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        fs::rename(&new, &path)
    };
    write().map_err(failed("write", &path))
}

fn read_record(container: &Path, id: &ContainerId) -> Result<Record> {
    let path = container.join(STATE_FILE);
    let damaged = |source| StateError::Damaged {
        id: id.to_string(),
        path: path.clone(),
        source,
    };
    match read_json::<Record>(&path) {
        Ok(record) if record.version == VERSION && record.id == id.as_str() => Ok(record),
        Ok(record) => Err(damaged(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("version {} of container {:?}", record.version, record.id),
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !container.exists() => {
            Err(StateError::NotFound { id: id.to_string() })
        }
        Err(error) => Err(damaged(error)),
    }
}

/// A damaged `exit.json` is a missing one: the monitor's life decides.
fn read_exit(container: &Path) -> Option<Exit> {
    read_json(&container.join(EXIT_FILE)).ok()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_STATE).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;
    use crate::process::ProcessRef;

    fn root() -> (tempfile::TempDir, Root, ContainerId) {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path()).unwrap();
        (temp, root, ContainerId::parse("c1").unwrap())
    }

    fn record(pid: i32) -> Record {
        Record::sample(Phase::Created, ProcessRef::of(pid).unwrap())
    }

    fn own_pid() -> i32 {
        std::process::id().try_into().unwrap()
    }

    #[test]
    fn an_id_is_created_once() {
        let (_temp, root, id) = root();
        let winners = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| ContainerDir::create(&root, &id).is_ok()))
                .collect();
            tries
                .into_iter()
                .filter_map(|one| one.join().ok())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn who_waited_for_a_removed_container_is_told_that_it_is_gone() {
        let (_temp, root, id) = root();
        let first = ContainerDir::create(&root, &id).unwrap();
        assert!(ContainerDir::try_lock(&root, &id).unwrap().is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| ContainerDir::lock(&root, &id));
            first.remove().unwrap();
            assert!(matches!(
                second.join().unwrap(),
                Err(StateError::NotFound { .. })
            ));
        });
    }

    #[test]
    fn damaged_state_is_an_error_and_never_a_panic() {
        let (_temp, root, id) = root();
        let dir = ContainerDir::create(&root, &id).unwrap();
        assert!(matches!(root.read(&id), Err(StateError::Damaged { .. })));
        dir.write(&record(own_pid())).unwrap();
        let whole = fs::read(dir.file(STATE_FILE)).unwrap();
        for bytes in [
            &b""[..],
            &whole[..whole.len() / 2],
            b"[]",
            b"\xff\x00",
            b"{\"version\":9}",
        ] {
            fs::write(dir.file(STATE_FILE), bytes).unwrap();
            assert!(
                matches!(root.read(&id), Err(StateError::Damaged { .. })),
                "{bytes:?}"
            );
            assert_eq!(root.ids().unwrap(), std::slice::from_ref(&id));
        }
        dir.remove().unwrap();
        assert!(matches!(root.read(&id), Err(StateError::NotFound { .. })));
    }

    #[test]
    fn the_status_follows_the_phase_until_the_monitor_or_the_program_ends() {
        let (_temp, root, id) = root();
        let dir = ContainerDir::create(&root, &id).unwrap();
        let mut record = record(own_pid());
        dir.write(&record).unwrap();
        assert_eq!(root.read(&id).unwrap().1, Status::Created);
        record.phase = Phase::Started;
        dir.write(&record).unwrap();
        assert_eq!(dir.read().unwrap().1, Status::Running);
        record.paused = true;
        dir.write(&record).unwrap();
        assert_eq!(dir.read().unwrap().1, Status::Paused);
        write_exit(
            dir.path(),
            Exit {
                code: 3,
                machine_died: false,
                oom_killed: false,
            },
        )
        .unwrap();
        assert_eq!(dir.read().unwrap().1, Status::Stopped);
        fs::remove_file(dir.file(EXIT_FILE)).unwrap();
        record.monitor.start_time += 1;
        dir.write(&record).unwrap();
        assert_eq!(dir.read().unwrap().1, Status::Stopped);
    }
}
