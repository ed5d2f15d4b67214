//! The working directory of a process: made if it is missing, as runc does, and named if it is what failed.
//!
//! Paths are resolved inside the container's root (`openat2` with `RESOLVE_IN_ROOT`): a link cannot lead out of it.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use protocol::rpc::ErrorCode;
use rustix::io::Errno;
use serde_json::Value;

use super::links::{open_directory, open_root};
use super::{Failure, program};

/// Makes the directory of the container's first process, unless a mount will bring it.
///
/// That it cannot be made is no failure yet: entering it will be.
pub(super) fn make(spec: &Value) {
    let (Some(root), Some(cwd)) = (
        spec.pointer("/root/path").and_then(Value::as_str),
        spec.pointer("/process/cwd").and_then(Value::as_str),
    ) else {
        return;
    };
    let cwd = Path::new(cwd);
    if !cwd.is_absolute() || cwd == Path::new("/") || below_a_mount(spec, cwd) {
        return;
    }
    if let Ok(root) = open_root(Path::new(root)) {
        make_in(&root, cwd).ok();
    }
}

fn below_a_mount(spec: &Value, path: &Path) -> bool {
    let mounts = spec.get("mounts").and_then(Value::as_array);
    let mut destinations = mounts
        .into_iter()
        .flatten()
        .filter_map(|mount| mount.get("destination").and_then(Value::as_str));
    destinations.any(|destination| destination != "/" && path.starts_with(destination))
}

fn make_in(root: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let mut parent = PathBuf::from("/");
    for component in path.components() {
        let Component::Normal(name) = component else {
            if component == Component::ParentDir {
                return Err(Errno::INVAL);
            }
            continue;
        };
        let child = parent.join(name);
        if open_directory(root, &child).is_err_and(|errno| errno == Errno::NOENT) {
            rustix::fs::mkdirat(open_directory(root, &parent)?, name, 0o755.into())?;
        }
        parent = child;
    }
    Ok(())
}

/// [`explain`] of the container's first process, whose directory is made: where a file is in the way, runc tells of that.
pub(super) fn explain_first(failure: Failure, root: &Path, cwd: Option<&str>) -> Failure {
    explain_by(failure, root, cwd, |cwd, errno| match errno {
        Errno::NOTDIR => format!(
            "error during container init: mkdir {cwd}: {}",
            program::text(errno)
        ),
        _ => cannot_enter(cwd, errno),
    })
}

/// What libcontainer's vague failure means if the process cannot enter `cwd`, below the directory `root`.
pub(super) fn explain(failure: Failure, root: &Path, cwd: Option<&str>) -> Failure {
    explain_by(failure, root, cwd, cannot_enter)
}

fn explain_by(
    failure: Failure,
    root: &Path,
    cwd: Option<&str>,
    text: impl FnOnce(&str, Errno) -> String,
) -> Failure {
    let (ErrorCode::Internal, Some(cwd)) = (failure.code, cwd) else {
        return failure;
    };
    match open_root(root).and_then(|root| open_directory(root, Path::new(cwd))) {
        Ok(_) => failure,
        Err(errno) => Failure::new(ErrorCode::Invalid, text(cwd, errno)),
    }
}

fn cannot_enter(cwd: &str, errno: Errno) -> String {
    format!(
        "chdir to cwd ({cwd:?}) set in config.json failed: {}",
        program::text(errno)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    #[test]
    fn directories_are_made_inside_the_root_only() {
        let dir = std::env::temp_dir().join(format!("husk-cwd-{}", std::process::id()));
        let root = dir.join("root");
        fs::create_dir_all(root.join("inside")).unwrap();
        symlink("/inside", root.join("absolute")).unwrap();
        symlink("../..", root.join("up")).unwrap();
        let spec = |cwd: &str| {
            json!({
                "root": {"path": root},
                "process": {"cwd": cwd},
                "mounts": [{"destination": "/mounted"}],
            })
        };
        make(&spec("/a/b"));
        assert!(root.join("a/b").is_dir());
        make(&spec("/absolute/x"));
        assert!(root.join("inside/x").is_dir());
        make(&spec("/up/y"));
        assert!(root.join("y").is_dir());
        assert!(!dir.join("y").exists());
        make(&spec("/mounted/z"));
        assert!(!root.join("mounted").exists());
        make(&spec("/../../w"));
        assert!(!dir.join("w").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let failure = || Failure::new(ErrorCode::Internal, "vague".to_owned());
        let explained = explain(failure(), Path::new("/"), Some("/no/such"));
        assert_eq!(explained.code, ErrorCode::Invalid);
        assert_eq!(
            explained.message,
            "chdir to cwd (\"/no/such\") set in config.json failed: no such file or directory"
        );
        let file = "/proc/self/status";
        let explained = explain_first(failure(), Path::new("/"), Some(file));
        assert_eq!(
            explained.message,
            "error during container init: mkdir /proc/self/status: not a directory"
        );
        let explained = explain(failure(), Path::new("/"), Some("/"));
        assert_eq!(explained.message, "vague");
    }
}
