//! Needs root, as the VMM does. Each case enters its namespace in a thread of its own.
#![expect(unsafe_code, reason = "unshare")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

/// A directory of the host with a file in it, removed at the end.
struct Host {
    path: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("husk-shares-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("dir")).unwrap();
        fs::write(path.join("dir/file"), "content").unwrap();
        fs::write(path.join("single"), "one file").unwrap();
        Self { path }
    }

    fn source(&self, name: &str) -> Source {
        Source::open(&self.path.join(name)).unwrap()
    }

    fn share(&self, name: &str, source: &str, read_only: bool) -> Share {
        Share {
            name: ShareName::new(name).unwrap(),
            source: self.source(source),
            read_only,
            recursive: false,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).unwrap();
    }
}

fn name(name: &str) -> ShareName {
    ShareName::new(name).unwrap()
}

fn listing(path: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Each call leaves its thread in the sandbox's namespace, so each has one, as single as a process.
fn apart(run: &(dyn Fn() -> Result<(), ShareError> + Sync)) -> Result<(), ShareError> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the thread ends with `run`, which relies on no shared working directory.
            unsafe { unshare_unsafe(UnshareFlags::FS) }.unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

fn errno<T: std::fmt::Debug>(outcome: io::Result<T>) -> i32 {
    outcome.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn the_namespace_holds_the_shares_and_nothing_else() {
    let host = Host::new("layout");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let shares = vec![
                host.share("rw", "dir", false),
                host.share("ro", "dir", true),
                host.share("file", "single", true),
            ];
            enter(&Layout {
                shares,
                vsock: Some(host.source("dir")),
            })
            .unwrap();
            assert_eq!(listing("/"), ["attach", "proc", "shares", "vsock"]);
            assert_eq!(listing("/shares"), ["file", "ro", "rw"]);
            assert_eq!(fs::read_to_string("/shares/ro/file").unwrap(), "content");
            assert_eq!(fs::read_to_string("/shares/file").unwrap(), "one file");
            fs::write("/shares/rw/new", "x").unwrap();
            for sealed in ["/x", "/shares/x", "/shares/ro/x", "/proc/x"] {
                assert_eq!(errno(fs::write(sealed, "")), libc::EROFS, "{sealed}");
            }
            assert_eq!(errno(fs::read_dir("/proc/self/ns")), libc::ENOENT);
            // Files are reopened through the one part of /proc that is left.
            let file = fs::File::open("/shares/ro/file").unwrap();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            let path = format!("{PROC_FDS}/{fd}");
            assert_eq!(fs::read_to_string(path).unwrap(), "content");
        });
    });
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert!(host.path.join("dir/new").exists());
}

#[test]
fn shares_come_and_go_while_the_sandbox_runs() {
    let host = Host::new("running");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (pid_sender, pid) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let sandbox = thread::spawn(move || {
        enter(&Layout::default()).unwrap();
        pid_sender
            .send(u32::try_from(rustix::thread::gettid().as_raw_pid()).unwrap())
            .unwrap();
        stopped.recv().unwrap_err();
        listing("/shares")
    });
    let pid = pid.recv().unwrap();
    let share = name("data");
    apart(&|| attach(pid, &[host.share("data", "dir", true)])).unwrap();
    let seen = PathBuf::from(format!("/proc/{pid}/root/shares/data"));
    assert_eq!(fs::read_to_string(seen.join("file")).unwrap(), "content");
    assert_eq!(errno(fs::write(seen.join("x"), "")), libc::EROFS);
    let twice = [
        host.share("new", "dir", false),
        host.share("data", "dir", false),
    ];
    let twice = apart(&|| attach(pid, &twice));
    assert!(matches!(twice, Err(ShareError::Exists(_))), "{twice:?}");
    assert!(!seen.with_file_name("new").exists(), "half of a list");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);

    apart(&|| detach(pid, &share)).unwrap();
    assert!(!seen.exists());
    let again = apart(&|| detach(pid, &share));
    assert!(matches!(again, Err(ShareError::Missing(_))), "{again:?}");
    apart(&|| attach(pid, &[host.share("data", "single", false)])).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&seen)
        .unwrap()
        .write_all(b", more")
        .unwrap();
    apart(&|| detach_all(pid, &[name("other"), share.clone()])).unwrap();
    apart(&|| detach_all(pid, std::slice::from_ref(&share))).unwrap();
    drop(stop);
    assert_eq!(sandbox.join().unwrap(), Vec::<String>::new());
    assert_eq!(
        fs::read_to_string(host.path.join("single")).unwrap(),
        "one file, more"
    );
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn processes_that_are_no_sandbox_are_left_alone() {
    let host = Host::new("wrong");
    let own = std::process::id();
    let outcome = attach(own, &[host.share("x", "dir", true)]);
    assert!(
        matches!(outcome, Err(ShareError::NotSandbox(pid)) if pid == own),
        "{outcome:?}"
    );
    let outcome = detach(u32::MAX >> 1, &name("x"));
    assert!(
        matches!(outcome, Err(ShareError::Enter { .. })),
        "{outcome:?}"
    );
}

#[test]
fn sources_that_are_not_files_are_refused() {
    let host = Host::new("sources");
    symlink("/etc", host.path.join("link")).unwrap();
    let refused = |path: &Path| Source::open(path).unwrap_err();
    assert!(matches!(
        refused(&host.path.join("link")),
        ShareError::Kind(_)
    ));
    assert!(matches!(
        refused(Path::new("/dev/null")),
        ShareError::Kind(_)
    ));
    assert!(matches!(
        refused(Path::new("/proc")),
        ShareError::KernelInterface(_)
    ));
    assert!(matches!(
        refused(Path::new("/proc/self/status")),
        ShareError::KernelInterface(_)
    ));
    assert!(matches!(
        refused(Path::new("/sys/kernel")),
        ShareError::KernelInterface(_)
    ));
    assert!(matches!(
        refused(&host.path.join("none")),
        ShareError::Source { .. }
    ));
}

#[test]
fn a_recursive_share_has_the_mounts_below_it_but_not_the_kernel() {
    let host = Host::new("recursive");
    let dir = host.path.join("dir");
    for inner in ["tmp fs", "proc", "hidden"] {
        fs::create_dir(dir.join(inner)).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            mount_below(&dir);
            let recursive = |name, read_only| Share {
                recursive: true,
                ..host.share(name, "dir", read_only)
            };
            let shares = vec![
                host.share("one", "dir", false),
                recursive("all", false),
                recursive("ro", true),
            ];
            enter(&Layout {
                shares,
                vsock: None,
            })
            .unwrap();
            assert_eq!(listing("/shares/one/tmp fs"), Vec::<String>::new());
            assert_eq!(listing("/shares/all/tmp fs"), ["inner", "new"]);
            assert_eq!(listing("/shares/all/tmp fs/inner"), ["deep"]);
            assert_eq!(listing("/shares/all/proc"), Vec::<String>::new());
            assert_eq!(listing("/shares/all/hidden"), ["top"]);
            fs::write("/shares/all/tmp fs/inner/more", "").unwrap();
            assert_eq!(listing("/shares/ro/tmp fs/inner"), ["deep", "more"]);
            for sealed in [
                "/shares/ro/x",
                "/shares/ro/tmp fs/x",
                "/shares/ro/tmp fs/inner/x",
            ] {
                assert_eq!(errno(fs::write(sealed, "")), libc::EROFS, "{sealed}");
            }
        });
    });
}

/// Gives this thread a namespace in which the directory has mounts below it: nested ones, a procfs, and one that hides another.
fn mount_below(dir: &Path) {
    // SAFETY: the thread ends with the test, which relies on no shared working directory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    let tmpfs = |path: &str| {
        let at = dir.join(path);
        fs::create_dir_all(&at).unwrap();
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), None).unwrap();
        at
    };
    fs::write(tmpfs("tmp fs").join("new"), "").unwrap();
    fs::write(tmpfs("tmp fs/inner").join("deep"), "").unwrap();
    fs::write(tmpfs("hidden").join("bottom"), "").unwrap();
    fs::write(tmpfs("hidden").join("top"), "").unwrap();
    mount("proc", dir.join("proc"), "proc", MountFlags::empty(), None).unwrap();
}
