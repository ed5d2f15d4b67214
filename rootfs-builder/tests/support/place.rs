//! A directory for an image and for what comes of it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{listing, stderr, unpack};

/// A place for an image and for what comes of it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("work")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn layout(&self) -> PathBuf {
        self.path("layout")
    }

    /// Unpacks an image to this tree.
    pub(crate) fn holds(&self, image: &str, options: &[&str], lines: &[&str]) {
        let root = self.path("work/root");
        let output = unpack(image, &root, options);
        assert!(output.status.success(), "{image}: {}", stderr(&output));
        assert_eq!(listing::names(&root), lines, "{image}");
        fs::remove_dir_all(root).unwrap();
    }

    /// Fails to unpack an image, and leaves nothing.
    pub(crate) fn refuses(&self, image: &str, options: &[&str], words: &str) {
        let output = unpack(image, &self.path("work/root"), options);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{image}: {errors}");
        assert!(errors.contains(words), "{image}: {errors}");
        assert_eq!(listing::names(&self.path("work")), Vec::<String>::new());
    }
}

pub(crate) fn oci(path: &Path) -> String {
    format!("oci:{}", path.display())
}

/// Packs a directory with the tar of the system.
pub(crate) fn pack(directory: &Path, file: &Path) {
    let status = Command::new("tar")
        .arg("-C")
        .arg(directory)
        .arg("-cf")
        .arg(file)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
