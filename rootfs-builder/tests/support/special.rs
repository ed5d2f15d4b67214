//! An image with every special case that file systems have.
#![allow(clippy::too_many_lines, reason = "it is a table")]

use super::tar::{self, Entry, archive, raw};

/// The root with a date of its own, which all three take from the image.
pub(crate) fn root() -> Entry {
    Entry::dir("./").record("mtime", "1234567890.123456789")
}

/// Hard links say what their file says: of other links umoci and Podman make different things. Dates are after 1970, which Podman
/// has for all before.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let lower = [
        root(),
        Entry::dir("bin"),
        Entry::file("bin/su", b"#!/bin/sh\n").mode(0o4755),
        Entry::file("bin/wall", b"x").mode(0o2755).owner(0, 5),
        Entry::hard_link("bin/sudo", "bin/su").mode(0o4755),
        Entry::dir("tmp").mode(0o1777),
        Entry::dir("etc"),
        Entry::symlink("etc/mtab", "../proc/self/mounts"),
        Entry::file("etc/shadow", b"root:*:1::::::\n")
            .mode(0o640)
            .owner(0, 42),
        Entry::file("etc/long", b"l").record("path", format!("etc/{}", "n".repeat(200))),
        Entry::file("etc/dated", b"d").record("mtime", "5.25"),
        Entry::file("etc/big-owner", b"o").owner(3_000_000_000, 4_000_000_000),
        Entry::dir("dev"),
        Entry::device(b'3', "dev/null", 1, 3).mode(0o666),
        Entry::device(b'4', "dev/sda", 8, 0).owner(0, 6),
        Entry::of_kind(b'6', "dev/initctl").mode(0o600),
        Entry::file("bin/ping", b"p").record(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        Entry::file("etc/noted", b"n").record("SCHILY.xattr.user.note", b"a\0b\n"),
        Entry::dir("var"),
        Entry::dir("var/gone"),
        Entry::file("var/gone/a", b"a"),
        Entry::dir("var/kept"),
        Entry::file("var/kept/old", b"o"),
        Entry::file("var/file", b"f"),
        Entry::dir("data"),
        Entry::file("data/block", &[b'b'; 4096]),
        Entry::file("data/tail", &[b't'; 4097]),
        Entry::file(
            "data/text",
            "some text, and more of it\n".repeat(20_000).as_bytes(),
        ),
        Entry::file("data/noise", &noise(200_000)),
        Entry::file("data/almost", &[b'a'; 4095]),
        Entry::symlink("data/far", &"x/".repeat(1500)).record("linkpath", "x/".repeat(1500)),
    ];
    // Version 1.0: umoci does not read the others.
    let content = [tar::padded(b"1\n1048576\n4\n"), b"data".to_vec()].concat();
    let sparse = Entry::file("var/stored", &content)
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.name", "var/sparse")
        .record("GNU.sparse.realsize", "3145728")
        .bytes();
    let upper = [
        Entry::dir("var"),
        Entry::file("var/.wh.file", b""),
        Entry::file("var/.wh.gone", b""),
        Entry::dir("var/kept").mode(0o700).owner(7, 7),
        Entry::file("var/kept/.wh..wh..opq", b""),
        Entry::file("var/kept/new", b"n"),
        Entry::dir("etc"),
        Entry::file("etc/mtab", b"a file now"),
        Entry::dir("bin"),
        Entry::hard_link("bin/doas", "bin/su").mode(0o4755),
        Entry::dir("tmp").mode(0o1777),
    ];
    let mut lower: Vec<Entry> = lower.into();
    lower.push(Entry::dir("many"));
    lower.extend((0..500).map(|n| Entry::file(format!("many/{n:05}-{}", "m".repeat(60)), b"")));
    let mut lower: Vec<Vec<u8>> = lower.iter().map(Entry::bytes).collect();
    lower.push(sparse);
    vec![raw(&lower), archive(&upper)]
}

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
