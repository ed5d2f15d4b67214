//! Tells engines of an OOM kill in the guest, by the only sign that they watch: the counters in `memory.events` of the
//! container's cgroup on the host. The kernel alone can change those, so it is given a reason: when the machine has ended, a
//! child that is first to be killed takes more memory than the cgroup is then allowed to have.
//!
//! Nobody else can be hit. The child's `oom_score_adj` is the highest there is, and the limit is above what the monitors use.

#![expect(
    unsafe_code,
    reason = "fork, and memory that is mapped to be taken; the process has a single thread"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{CgroupError, HostCgroup};

/// How much more than now the cgroup may use while the child does its work: what a monitor may happen to need.
const MARGIN: u64 = 4 << 20;

/// How much more than that the child takes.
const EXCESS: u64 = 16 << 20;

impl HostCgroup {
    /// Makes the kernel count an OOM kill. The machine must have ended.
    pub(crate) fn report_oom(&self) -> Result<(), CgroupError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let used = read(dir, "memory.current")?.parse().unwrap_or(u64::MAX);
        // Mostly page cache, which would have to go first. Older kernels have no such file, and it seldom works wholly.
        drop(fs::write(dir.join("memory.reclaim"), used.to_string()));
        let used = read(dir, "memory.current")?.parse().unwrap_or(used);
        let limit = used.saturating_add(MARGIN);
        // A kernel without swap has no such file.
        let _swap = Changed::set(dir, "memory.swap.max", 0).ok();
        let _memory = Changed::set(dir, "memory.max", limit)?;
        let failed = |source| CgroupError::File {
            path: dir.join("memory.events"),
            source,
        };
        let size = usize::try_from(limit.saturating_add(EXCESS)).unwrap_or(usize::MAX);
        if be_killed(&dir.join("cgroup.procs"), size).map_err(failed)? {
            Ok(())
        } else {
            Err(failed(io::Error::other("no OOM kill was counted")))
        }
    }
}

/// A limit that is changed for a time.
struct Changed {
    path: PathBuf,
    before: String,
}

impl Changed {
    fn set(dir: &Path, file: &str, value: u64) -> Result<Self, CgroupError> {
        let before = read(dir, file)?;
        let path = dir.join(file);
        match fs::write(&path, value.to_string()) {
            Ok(()) => Ok(Self { path, before }),
            Err(source) => Err(CgroupError::File { path, source }),
        }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // The cgroup may be gone; the container is in any case.
        drop(fs::write(&self.path, &self.before));
    }
}

fn read(dir: &Path, file: &str) -> Result<String, CgroupError> {
    let path = dir.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(CgroupError::File { path, source }),
    }
}

/// Whether a child that takes `size` bytes in the cgroup is killed.
fn be_killed(procs: &Path, size: usize) -> io::Result<bool> {
    // SAFETY: husk has a single thread, so the child has no lock held by a thread that does not exist in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _outcome = take(procs, size);
            // SAFETY: ends the child at once, without the parent's destructors and buffers.
            unsafe { libc::_exit(1) }
        }
        pid => {
            let status = waitpid(Pid::from_raw(pid), WaitOptions::empty())?;
            let signal = status.and_then(|(_, status)| status.terminating_signal());
            Ok(signal == Some(libc::SIGKILL))
        }
    }
}

fn take(procs: &Path, size: usize) -> io::Result<()> {
    // First of all: from here on nobody else is chosen.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    fs::write(procs, "0")?;
    let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
    // SAFETY: a new mapping, which nobody refers to.
    unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            size,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )
    }?;
    Ok(())
}
