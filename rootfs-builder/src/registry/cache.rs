//! Blobs that were fetched before, by digest. What is taken out is verified again.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

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

    /// Keeps a blob as it is read. It gets its name at the end, if its digest is the right one.
    pub(super) fn keep<R: Read>(&self, digest: Digest, source: R) -> io::Result<Keeping<R>> {
        fs::create_dir_all(&self.0)?;
        Ok(Keeping {
            source: Hashed::new(source),
            file: Some(NamedTempFile::new_in(&self.0)?),
            digest,
            path: self.0.join(digest.hex()),
        })
    }
}

/// A blob on its way into the cache.
pub(super) struct Keeping<R> {
    source: Hashed<R>,
    file: Option<NamedTempFile>,
    digest: Digest,
    path: PathBuf,
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if count > 0 {
            if let Some(file) = &mut self.file {
                file.write_all(&buffer[..count])?;
            }
        } else if !buffer.is_empty()
            && let Some(file) = self.file.take()
            && self.source.digest() == self.digest
        {
            file.persist(&self.path).map_err(|error| error.error)?;
        }
        Ok(count)
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
        let keep = |bytes: &'static [u8]| {
            let mut kept = cache.keep(digest, bytes).unwrap();
            io::copy(&mut kept, &mut io::sink()).unwrap()
        };
        keep(b"lie");
        assert!(cache.get(&digest).is_none());
        drop(cache.keep(digest, &b"blob"[..]));
        assert!(cache.get(&digest).is_none(), "nobody read it");
        assert_eq!(keep(b"blob"), 4);
        assert!(cache.get(&digest).is_some());
        fs::write(dir.path().join("sha256").join(digest.hex()), "changed").unwrap();
        assert!(cache.get(&digest).is_none());
        assert_eq!(fs::read_dir(dir.path().join("sha256")).unwrap().count(), 0);
    }
}
