//! What is in a directory, one line a file.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Every file below a directory, sorted: its path, and `/`, `=content`, `->target`, `|`, `c1:3` or `b1:3`.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(directory, directory, &mut |path, line| {
        lines.push(format!("{path}{}", what(line)));
    });
    lines.sort();
    lines
}

/// The same with mode, owner, links, date, length and attributes, and the root itself.
pub(crate) fn full(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |path: &str, file: &Path| {
        let data = file.symlink_metadata().unwrap();
        let mode = if data.is_symlink() {
            0
        } else {
            data.mode() & 0o7777
        };
        let links = if data.is_dir() { 0 } else { data.nlink() };
        let size = if data.is_file() { data.len() } else { 0 };
        let times = format!("{}.{:09}", data.mtime(), data.mtime_nsec());
        let content = if data.is_file() {
            hash(file)
        } else {
            what(file)
        };
        lines.push(format!(
            "{path} {mode:o} {}:{} links={links} size={size} {times} {content} {}",
            data.uid(),
            data.gid(),
            xattrs(file)
        ));
    };
    add(".", directory);
    walk(directory, directory, &mut add);
    lines.sort();
    lines
}

fn walk(root: &Path, directory: &Path, found: &mut impl FnMut(&str, &Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        found(&name, &path);
        if path.symlink_metadata().unwrap().is_dir() {
            walk(root, &path, found);
        }
    }
}

fn what(file: &Path) -> String {
    let data = file.symlink_metadata().unwrap();
    let kind = data.file_type();
    let device = || {
        format!(
            "{}:{}",
            rustix::fs::major(data.rdev()),
            rustix::fs::minor(data.rdev())
        )
    };
    if kind.is_dir() {
        "/".to_owned()
    } else if kind.is_symlink() {
        format!("->{}", fs::read_link(file).unwrap().display())
    } else if kind.is_fifo() {
        "|".to_owned()
    } else if kind.is_char_device() {
        format!("c{}", device())
    } else if kind.is_block_device() {
        format!("b{}", device())
    } else {
        format!("={}", String::from_utf8_lossy(&fs::read(file).unwrap()))
    }
}

fn hash(file: &Path) -> String {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    std::io::copy(&mut fs::File::open(file).unwrap(), &mut hasher).unwrap();
    hex::encode(hasher.finalize())
}

fn xattrs(file: &Path) -> String {
    let mut names = vec![0_u8; 64 << 10];
    let length = rustix::fs::llistxattr(file, &mut names).unwrap();
    let mut shown = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(file, &name, &mut value).unwrap();
        shown.push(format!("{name}={}", hex::encode(&value[..length])));
    }
    shown.sort();
    shown.join(",")
}
