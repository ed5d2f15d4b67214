//! Runs a table of images that mean harm, with files beside them that must stay as they are.

use std::fs;
use std::path::Path;

use super::layout::{Layout, digest};
use super::tar::{Entry, archive};
use super::{listing, stderr, unpack};

/// What becomes of an image.
pub(crate) enum Outcome {
    /// An error with these words in it.
    Refused(&'static str),
    /// This tree.
    Tree(&'static [&'static str]),
}

/// An image: what it tries, its layers, and what becomes of it.
pub(crate) type Case = (&'static str, Vec<Vec<u8>>, Outcome);

pub(crate) fn run(cases: &[Case]) {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let before = listing::full(&outside);
    for (name, layers, outcome) in cases {
        let layout = dir.path().join("layout");
        Layout(&layout).image(layers);
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        let output = unpack(
            &format!("oci:{}", layout.display()),
            &work.join("root"),
            &[],
        );
        let errors = stderr(&output);
        match outcome {
            Outcome::Refused(words) => {
                assert_eq!(output.status.code(), Some(1), "{name}: {errors}");
                assert!(errors.contains(words), "{name}: {errors}");
                let last = digest(layers.last().unwrap());
                assert!(
                    errors.contains(&format!("layer {last}")),
                    "{name}: {errors}"
                );
                assert_eq!(listing::names(&work), Vec::<String>::new(), "{name}");
            }
            Outcome::Tree(lines) => {
                assert!(output.status.success(), "{name}: {errors}");
                assert_eq!(listing::names(&work.join("root")), *lines, "{name}");
                assert_eq!(fs::read_dir(&work).unwrap().count(), 1, "{name}");
            }
        }
        assert_eq!(listing::full(&outside), before, "{name}");
        assert!(!Path::new("/husk-escaped").exists(), "{name}");
        fs::remove_dir_all(&work).unwrap();
        fs::remove_dir_all(&layout).unwrap();
    }
}

pub(crate) fn one(entries: &[Entry]) -> Vec<Vec<u8>> {
    vec![archive(entries)]
}

pub(crate) fn two(lower: &[Entry], upper: &[Entry]) -> Vec<Vec<u8>> {
    vec![archive(lower), archive(upper)]
}

pub(crate) fn long(length: usize) -> String {
    "n".repeat(length)
}
