//! `husk spec`: the config.json that `runc spec` writes.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::{CommandError, Result};
use crate::cli::SpecArgs;

const DEFAULT: &str = include_str!("spec.json");
const ROOTLESS: &str = include_str!("spec-rootless.json");

pub(super) fn spec(args: &SpecArgs) -> Result<()> {
    let path = args
        .bundle
        .as_deref()
        .unwrap_or(Path::new("."))
        .join("config.json");
    let text = if args.rootless {
        rootless()
    } else {
        DEFAULT.to_owned()
    };
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(CommandError::Exists { path })
        }
        outcome => outcome.map_err(|source| CommandError::Write { path, source }),
    }
}

/// The user's own ids, mapped to root.
fn rootless() -> String {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    ROOTLESS
        .replace("\"@UID@\"", &uid.to_string())
        .replace("\"@GID@\"", &gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    #[test]
    fn both_are_specs() {
        for text in [DEFAULT.to_owned(), rootless()] {
            let spec: Spec = serde_json::from_str(&text).unwrap();
            assert_eq!(
                spec.process().as_ref().unwrap().args().as_ref().unwrap(),
                &["sh"]
            );
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let args = SpecArgs {
            bundle: Some(dir.path().to_owned()),
            rootless: false,
        };
        spec(&args).unwrap();
        assert!(matches!(spec(&args), Err(CommandError::Exists { .. })));
    }
}
