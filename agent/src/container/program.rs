//! Finds a container's program as runc does (Go's `exec.LookPath`), and fails with the same words.
//!
//! Looked up by the new process itself, inside its root, as its user: no link can lead out of the container, and
//! permissions are those that `execve` will meet.

use std::path::{Path, PathBuf};

use protocol::rpc::ErrorCode;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

/// The program cannot be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

/// The file that `name` stands for, given the value of `PATH`.
pub(super) fn find(name: &str, path: Option<&str>) -> Result<PathBuf, Unusable> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(problem) => Err(problem.explain(name)),
        };
    }
    let directories = path.unwrap_or_default().split(':');
    for directory in directories.filter(|directory| !directory.is_empty()) {
        let candidate = Path::new(directory).join(name);
        if candidate.is_absolute() && check(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(Unusable {
        code: ErrorCode::ProgramNotFound,
        message: format!("exec: {name:?}: executable file not found in $PATH"),
    })
}

/// Why a file is not a program.
enum Problem {
    Stat(Errno),
    Directory,
    Access(Errno),
}

impl Problem {
    fn explain(self, name: &str) -> Unusable {
        let (code, reason) = match self {
            Self::Stat(errno) => {
                let code = match errno {
                    Errno::NOENT | Errno::NOTDIR => ErrorCode::ProgramNotFound,
                    _ => ErrorCode::ProgramNotExecutable,
                };
                (code, format!("stat {name}: {}", text(errno)))
            }
            // The words of runc 1.1, from which engines make 126.
            Self::Directory => (
                ErrorCode::ProgramNotExecutable,
                text(Errno::ACCESS).to_owned(),
            ),
            Self::Access(errno) => (ErrorCode::ProgramNotExecutable, text(errno).to_owned()),
        };
        Unusable {
            code,
            message: format!("exec: {name:?}: {reason}"),
        }
    }
}

fn check(path: &Path) -> Result<(), Problem> {
    let stat = rustix::fs::stat(path).map_err(Problem::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Problem::Directory);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(Problem::Access)?;
    // The superuser may do everything, but execute what nobody may.
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH) {
        Ok(())
    } else {
        Err(Problem::Access(Errno::ACCESS))
    }
}

/// The words of Go's `syscall.Errno`, which engines look for.
pub(super) fn text(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "no such file or directory",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "operation not permitted",
        Errno::NOEXEC => "exec format error",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::NAMETOOLONG => "file name too long",
        Errno::TXTBSY => "text file busy",
        Errno::NOMEM => "cannot allocate memory",
        Errno::TOOBIG => "argument list too long",
        _ => "input/output error",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("husk-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, mode: u32) -> String {
            let path = self.0.join(name);
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn failures_have_runcs_words() {
        let dir = Dir::new("program");
        let plain = dir.file("plain", 0o644);
        let directory = dir.0.to_str().unwrap();
        let below_file = format!("{plain}/x");
        for (name, code, message) in [
            (
                "/no/such",
                ErrorCode::ProgramNotFound,
                "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned(),
            ),
            (
                &plain,
                ErrorCode::ProgramNotExecutable,
                format!("exec: \"{plain}\": permission denied"),
            ),
            (
                directory,
                ErrorCode::ProgramNotExecutable,
                format!("exec: \"{directory}\": permission denied"),
            ),
            (
                &below_file,
                ErrorCode::ProgramNotFound,
                format!("exec: \"{below_file}\": stat {below_file}: not a directory"),
            ),
            (
                "foo",
                ErrorCode::ProgramNotFound,
                "exec: \"foo\": executable file not found in $PATH".to_owned(),
            ),
            (
                "",
                ErrorCode::ProgramNotFound,
                "exec: \"\": executable file not found in $PATH".to_owned(),
            ),
        ] {
            let found = find(name, Some("/no:/such"));
            assert_eq!(found, Err(Unusable { code, message }));
        }
    }

    #[test]
    fn path_is_searched_in_order_and_past_what_cannot_run() {
        let first = Dir::new("path-1");
        let second = Dir::new("path-2");
        first.file("tool", 0o644);
        let tool = second.file("tool", 0o755);
        let path = format!(":{}:{}", first.0.display(), second.0.display());
        assert_eq!(find("tool", Some(&path)), Ok(PathBuf::from(tool)));
        assert!(find("tool", None).is_err());
    }
}
