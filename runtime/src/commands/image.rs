//! The bundle of `husk run --image`: made by `husk-rootfs`, for as long as the container is there.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{CommandError, Result};
use crate::sandbox::Install;

/// Where bundles are made: on a disk, where `/tmp` may be memory, and on a file system that has every attribute.
const PLACE: &str = "/var/tmp";

/// A bundle that goes when this does.
pub(super) struct ImageBundle(TempDir);

impl ImageBundle {
    /// Makes a bundle of an image that runs `arguments`, or what the image says.
    pub(super) fn make(image: &str, arguments: &[String]) -> Result<Self> {
        let failed = |source| CommandError::Image {
            image: image.to_owned(),
            source,
        };
        let install = Install::find().map_err(failed)?;
        let dir = tempfile::Builder::new()
            .prefix("husk-image-")
            .tempdir_in(PLACE)
            .map_err(failed)?;
        let bundle = Self(dir);
        let mut command = Command::new(&install.rootfs);
        command.arg("bundle");
        if std::io::stdin().is_terminal() {
            command.arg("--terminal");
        }
        command
            .arg(image)
            .arg(bundle.path())
            .arg("--")
            .args(arguments);
        // What is wrong with an image is said by the program that reads it.
        let status = command.status().map_err(failed)?;
        if !status.success() {
            return Err(CommandError::ImageBundle {
                image: image.to_owned(),
            });
        }
        Ok(bundle)
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(self.0.path()).join("bundle")
    }
}
