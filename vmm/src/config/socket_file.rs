//! The name of a unix socket that this process has made, and takes away.

use std::io;
use std::path::{Path, PathBuf};

/// Removes the socket's name when it is dropped, so that a machine which cannot be built leaves none behind.
pub(crate) struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// For the socket that was just bound to `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its directory is found at `directory` from now on: the process has changed its root.
    pub(crate) fn moved_to(&mut self, directory: &str) {
        if let Some(name) = self.path.file_name() {
            self.path = Path::new(directory).join(name);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}
