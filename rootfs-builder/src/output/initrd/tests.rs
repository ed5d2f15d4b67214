//! Tests of the initrd as a whole: arguments in, a file out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::cli::ExtraFile;
use crate::compression::Compression;

struct Fixture {
    dir: TempDir,
    arguments: InitrdArguments,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, b"\x7fELF and more").unwrap();
        let output = dir.path().join("initrd.img");
        let compress = Compression::None;
        Self {
            dir,
            arguments: InitrdArguments {
                agent,
                output,
                compress,
                files: Vec::new(),
            },
        }
    }

    fn with_file(mut self, destination: &str) -> Self {
        let source = self.dir.path().join("extra");
        fs::write(&source, b"extra").unwrap();
        let destination = destination.to_owned();
        self.arguments.files.push(ExtraFile {
            source,
            destination,
            mode: 0o640,
        });
        self
    }

    fn build(&self) -> Result<Vec<u8>> {
        build(&self.arguments)?;
        Ok(fs::read(&self.arguments.output).unwrap())
    }

    fn refusal(&self) -> String {
        let error = build(&self.arguments).unwrap_err();
        let mut left = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name());
        assert!(
            left.all(|name| name == "agent" || name == "extra"),
            "something is left behind"
        );
        error.to_string()
    }
}

/// Offsets of names in an archive, in the order asked for.
fn offsets(archive: &[u8], names: &[&str]) -> Vec<Option<usize>> {
    let find = |name: &&str| {
        let needle = format!("{name}\0");
        archive
            .windows(needle.len())
            .position(|window| window == needle.as_bytes())
    };
    names.iter().map(find).collect()
}

#[test]
fn the_agent_is_init_and_extra_files_have_their_directories() {
    let archive = Fixture::new()
        .with_file("/usr/lib/x")
        .with_file("/etc/y")
        .build()
        .unwrap();
    let at = offsets(
        &archive,
        &["etc", "etc/y", "init", "usr", "usr/lib", "usr/lib/x"],
    );
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?}");
}

#[test]
fn the_result_depends_on_content_alone() {
    for compress in [Compression::None, Compression::Gzip, Compression::Lz4] {
        let mut one = Fixture::new().with_file("/a").with_file("/b");
        let mut two = Fixture::new().with_file("/b").with_file("/a");
        one.arguments.compress = compress;
        two.arguments.compress = compress;
        let agent = File::options()
            .write(true)
            .open(&two.arguments.agent)
            .unwrap();
        agent.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(one.build().unwrap(), two.build().unwrap(), "{compress:?}");
    }
}

#[test]
fn an_existing_initrd_is_replaced_and_no_other_file_stays() {
    let fixture = Fixture::new();
    fs::write(&fixture.arguments.output, "old").unwrap();
    assert!(fixture.build().unwrap().starts_with(b"070701"));
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 2);
    let mode = fs::metadata(&fixture.arguments.output)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o600, 0o600);
}

#[test]
fn bad_destinations_are_refused() {
    for name in [
        "etc/x",
        "/",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a/",
        "/a\0b",
        &format!("/{:4096}", ""),
    ] {
        let refusal = Fixture::new().with_file(name).refusal();
        assert!(
            refusal.starts_with(&format!("destination '{name}' is not")),
            "{refusal}"
        );
    }
}

#[test]
fn one_name_has_one_meaning() {
    assert_eq!(
        Fixture::new().with_file("/init").refusal(),
        "/init would be in the initrd twice"
    );
    let both = Fixture::new().with_file("/a").with_file("/a/b").refusal();
    assert_eq!(both, "/a would be both a file and a directory");
    let both = Fixture::new().with_file("/a/b").with_file("/a").refusal();
    assert_eq!(both, "/a would be both a file and a directory");
}

#[test]
fn sources_are_named_when_they_cannot_be_packed() {
    let mut fixture = Fixture::new();
    fixture.arguments.agent = fixture.dir.path().join("none");
    assert_eq!(
        fixture.refusal(),
        format!("cannot read {}", fixture.arguments.agent.display())
    );
    fixture.arguments.agent = fixture.dir.path().to_owned();
    let directory = fixture.dir.path().display();
    assert_eq!(
        fixture.refusal(),
        format!("{directory} is not a regular file")
    );
    let script = Fixture::new().with_file("/a");
    let agent = &script.arguments.agent;
    fs::write(agent, "#!/bin/sh").unwrap();
    assert_eq!(
        script.refusal(),
        format!("agent {} is not an ELF program", agent.display())
    );
}

#[test]
fn a_source_that_is_too_large_is_refused() {
    let fixture = Fixture::new();
    let agent = File::options()
        .write(true)
        .open(&fixture.arguments.agent)
        .unwrap();
    agent.set_len(MAX_FILE_SIZE + 1).unwrap();
    assert!(fixture.refusal().ends_with("has more than 268435456 bytes"));
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let mut fixture = Fixture::new();
    fixture.arguments.output = fixture.dir.path().join("no/such/initrd");
    assert!(fixture.refusal().ends_with("no/such/initrd"));
}
