//! Blobs that were fetched before, by digest. What is taken out is verified again.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hashed};

/// A directory of blobs.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.join("sha256"))
    }

    /// A blob, if it is there as it should be; one that is not is removed.
    pub(super) fn get(&self, digest: &Digest) -> Option<File> {
        let path = self.0.join(digest.hex());
        let mut file = File::open(&path).ok()?;
        let mut hashed = Hashed::new(&mut file);
        let read = io::copy(&mut hashed, &mut io::sink());
        if read.is_err() || hashed.finish().0 != *digest {
            drop(fs::remove_file(path));
            return None;
        }
        file.rewind().ok()?;
        Some(file)
    }

    /// Keeps a blob, at most `limit` bytes of it, and gives it back. It gets its name only if its digest is the right one.
    pub(super) fn keep(&self, digest: &Digest, source: impl Read, limit: u64) -> io::Result<File> {
        fs::create_dir_all(&self.0)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        let mut hashed = Hashed::new(source.take(limit));
        io::copy(&mut hashed, file.as_file_mut())?;
        let (found, _) = hashed.finish();
        let mut kept = if found == *digest {
            file.persist(self.0.join(digest.hex()))
                .map_err(|error| error.error)?
        } else {
            // Who reads it finds out, and says so.
            file.into_file()
        };
        kept.rewind()?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_verified_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let digest = Digest::of(b"blob");
        assert!(cache.get(&digest).is_none());
        cache.keep(&digest, &b"lie"[..], 100).unwrap();
        assert!(cache.get(&digest).is_none());
        cache.keep(&digest, &b"blob"[..], 100).unwrap();
        assert!(cache.get(&digest).is_some());
        fs::write(dir.path().join("sha256").join(digest.hex()), "changed").unwrap();
        assert!(cache.get(&digest).is_none());
        assert_eq!(fs::read_dir(dir.path().join("sha256")).unwrap().count(), 0);
    }
}
