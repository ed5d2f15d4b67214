//! Files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const MODE: u32 = 0o644;

/// Writes a file under a temporary name in the same directory and renames it when `write` is done.
pub(crate) fn write<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<T, E>,
) -> Result<T, E> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".husk-rootfs-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(directory)?;
    // The umask has no say in what the result is.
    file.as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    let result = write(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(result)
}
