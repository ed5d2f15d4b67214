//! The cgroup below which every container has its own, and the operations on one that calls need.
//!
//! Containers do not hang off the root directly: an id could be the name of a file there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The hierarchy's mount point.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// Parent of all containers, relative to the hierarchy's root.
const PARENT: &str = "husk";

/// Longest time to wait for the kernel to freeze, or to empty, a cgroup.
const SETTLE: Duration = Duration::from_secs(5);

/// Deepest nesting below a container's cgroup that is looked at.
const MAX_DEPTH: usize = 32;

/// Most processes listed of one container.
pub(crate) const MAX_LISTED: usize = 65_536;

/// The cgroup of one container.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup of container `id`, which must be one path component.
    pub(crate) fn of(id: &str) -> Self {
        Self {
            path: Path::new(MOUNT).join(PARENT).join(id),
        }
    }

    /// Its name for `linux.cgroupsPath`.
    pub(crate) fn spec_path(id: &str) -> String {
        format!("/{PARENT}/{id}")
    }

    /// Makes it, with every controller of the kernel, and opens its directory.
    pub(crate) fn create(&self) -> io::Result<File> {
        let parent = Path::new(MOUNT).join(PARENT);
        let controllers = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers"))?;
        for directory in [&parent, &self.path] {
            match fs::create_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => outcome?,
            }
            let above = directory.parent().unwrap_or(directory);
            for controller in controllers.split_whitespace() {
                // One that cannot be had is missed by whoever sets a limit with it.
                fs::write(
                    above.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                )
                .ok();
            }
        }
        File::open(&self.path)
    }

    /// Content of one of its files.
    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    /// One of its files, to be watched.
    pub(crate) fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.path.join(file))
    }

    /// Changes one of its files.
    pub(crate) fn write(&self, file: &str, content: &str) -> io::Result<()> {
        fs::write(self.path.join(file), content)
    }

    /// Stops every process in it, and returns when they all are.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), "1")?;
        self.settle("frozen", "1")
    }

    /// Lets its processes run again.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), "0")
    }

    /// Kills every process in it and below it, frozen ones too, and returns when they are gone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.settle("populated", "0"),
        }
    }

    /// Every process in it and below it.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for directory in self.tree()? {
            let Ok(list) = fs::read_to_string(directory.join("cgroup.procs")) else {
                continue; // Removed meanwhile.
            };
            pids.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
            if pids.len() >= MAX_LISTED {
                break;
            }
        }
        pids.truncate(MAX_LISTED);
        Ok(pids)
    }

    /// Removes it and everything below it; it must be empty of processes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.remove_tree() {
                // Tasks leave the cgroup a moment after their parent has seen them end.
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                outcome => return outcome,
            }
        }
    }

    fn remove_tree(&self) -> io::Result<()> {
        for directory in self.tree()?.iter().rev() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// The directory and all below it, parents first. Empty if there is none.
    fn tree(&self) -> io::Result<Vec<PathBuf>> {
        if !self.path.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = vec![(self.path.clone(), 0)];
        let mut next = 0;
        while let Some((directory, depth)) = found.get(next).cloned() {
            next += 1;
            if depth == MAX_DEPTH {
                continue;
            }
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.push((entry.path(), depth + 1));
                }
            }
        }
        Ok(found.into_iter().map(|(path, _)| path).collect())
    }

    /// Waits until `cgroup.events` says `key value`.
    fn settle(&self, key: &str, value: &str) -> io::Result<()> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let events = match self.read("cgroup.events") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                outcome => outcome?,
            };
            if events
                .lines()
                .any(|line| line.split_once(' ') == Some((key, value)))
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
