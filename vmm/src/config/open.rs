//! Opens what a config names. A path is absolute and leads to the thing itself: no symbolic link at its end, no procfs, no FIFO
//! that would block, no device that would do something on being opened.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs};

use super::ConfigError;

/// Opens the regular file at `path`, which the config has under `key`.
pub(super) fn regular(key: &str, path: &Path, flags: OFlags) -> Result<File, ConfigError> {
    let file = open(key, path, flags)?;
    expect_kind(key, path, &file, &[FileType::RegularFile])?;
    Ok(file)
}

/// Opens the regular file or block device at `path`, which the config has under `key`.
pub(super) fn disk(key: &str, path: &Path, flags: OFlags) -> Result<File, ConfigError> {
    let file = open(key, path, flags)?;
    expect_kind(
        key,
        path,
        &file,
        &[FileType::RegularFile, FileType::BlockDevice],
    )?;
    Ok(file)
}

/// Opens `path` without following a link at its end and without waiting for anybody.
fn open(key: &str, path: &Path, flags: OFlags) -> Result<File, ConfigError> {
    check_path(key, path)?;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let failed = |error: rustix::io::Errno| ConfigError::Open {
        key: key.to_owned(),
        path: path.to_owned(),
        source: error.into(),
    };
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::open(path, flags, mode).map_err(failed)?;
    if fstatfs(&file).map_err(failed)?.f_type == PROC_SUPER_MAGIC {
        return Err(value(key, format!("{path:?} is in procfs")));
    }
    Ok(file.into())
}

/// Opens what takes everything and keeps nothing, for the value at `key`.
pub(super) fn null(key: &str) -> Result<OwnedFd, ConfigError> {
    let path = Path::new("/dev/null");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ConfigError::Open {
        key: key.to_owned(),
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Refuses paths that could mean something else than they say.
pub(super) fn check_path(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(value(key, "has a NUL character".to_owned()));
    }
    if !path.is_absolute() {
        return Err(value(key, format!("{path:?} is not an absolute path")));
    }
    Ok(())
}

fn expect_kind(key: &str, path: &Path, file: &File, kinds: &[FileType]) -> Result<(), ConfigError> {
    let stat = fstat(file).map_err(|error| ConfigError::Open {
        key: key.to_owned(),
        path: path.to_owned(),
        source: error.into(),
    })?;
    if kinds.contains(&FileType::from_raw_mode(stat.st_mode)) {
        return Ok(());
    }
    let problem = match kinds {
        [FileType::RegularFile] => format!("{path:?} is not a regular file"),
        _ => format!("{path:?} is neither a regular file nor a block device"),
    };
    Err(value(key, problem))
}

/// The value at `key` is not usable.
pub(super) fn value(key: &str, problem: String) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        problem,
    }
}
