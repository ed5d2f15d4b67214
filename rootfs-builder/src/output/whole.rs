//! Files and directories that appear whole or not at all.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

const MODE: u32 = 0o644;
/// Before the temporary names.
const PREFIX: &str = ".husk-rootfs-";

/// Why a directory cannot be made.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    #[error("{} exists and is not an empty directory", path.display())]
    Exists { path: PathBuf },
    #[error("cannot make {}", path.display())]
    Make { path: PathBuf, source: io::Error },
}

/// Writes a file under a temporary name in the same directory and renames it when `write` is done.
pub(crate) fn write<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<T, E>,
) -> Result<T, E> {
    let file = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(above(path))?;
    // The umask has no say in what the result is.
    file.as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    let result = write(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(result)
}

/// Fills a directory under a temporary name, in a directory which nobody else may enter, and renames it when `fill` is done.
/// Nothing, or an empty directory, may be at `path`.
pub(crate) fn directory<T, E: From<DirectoryError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let failed = |source| DirectoryError::Make {
        path: path.to_owned(),
        source,
    };
    if !is_free(path).map_err(failed)? {
        let path = path.to_owned();
        return Err(DirectoryError::Exists { path }.into());
    }
    let scratch = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(above(path))
        .map_err(failed)?;
    let made = scratch.path().join("made");
    fs::create_dir(&made).map_err(failed)?;
    let result = fill(&made)?;
    // Not replacing: whatever has the name by now, if it is not empty, stays.
    fs::rename(&made, path).map_err(failed)?;
    Ok(result)
}

/// Where a temporary name can become `path` by renaming.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether nothing is at a path, or an empty directory.
fn is_free(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(!path.is_symlink()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}
