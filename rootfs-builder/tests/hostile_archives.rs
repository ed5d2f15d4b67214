//! Layers that were made to do harm, and such as are only odd, in their structure and attributes: each ends in a typed error that names the layer
//! and the entry, or in a tree that is exactly the one described. None writes outside, and none leaves anything behind.
#![expect(clippy::too_many_lines, reason = "they are tables")]

mod support;

use support::hostile::Outcome::{Refused, Tree};
use support::hostile::{long, one, run, two};
use support::tar::{self, Entry, archive, extension, record};

#[test]
fn whiteouts() {
    let lower = [
        Entry::dir("d"),
        Entry::file("d/a", b"a"),
        Entry::dir("d/s"),
        Entry::file("d/s/b", b"b"),
        Entry::file("e", b"e"),
    ];
    let over = |upper: &[Entry]| two(&lower, upper);
    let wh = |name: &str| Entry::file(name, b"");
    run(&[
        (
            "of a file",
            over(&[wh(".wh.e")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b"]),
        ),
        ("of a directory", over(&[wh(".wh.d")]), Tree(&["e=e"])),
        (
            "of nothing",
            over(&[wh(".wh.none"), wh("no/.wh.way")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b", "e=e"]),
        ),
        (
            "of everything in a directory",
            over(&[wh("d/.wh..wh..opq"), Entry::file("d/n", b"n")]),
            Tree(&["d/", "d/n=n", "e=e"]),
        ),
        (
            "the same, after what stays",
            over(&[
                Entry::file("d/n", b"n"),
                Entry::file("d/s/m", b"m"),
                wh("d/.wh..wh..opq"),
            ]),
            Tree(&["d/", "d/n=n", "d/s/", "d/s/m=m", "e=e"]),
        ),
        ("of everything", over(&[wh(".wh..wh..opq")]), Tree(&[])),
        (
            "of what the layer itself has",
            over(&[Entry::file("e", b"new"), wh(".wh.e")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b", "e=new"]),
        ),
        (
            "before what the layer itself has",
            over(&[wh(".wh.d"), Entry::file("d/n", b"n")]),
            Tree(&["d/", "d/n=n", "e=e"]),
        ),
        (
            "after what the layer itself has",
            over(&[Entry::file("d/n", b"n"), wh(".wh.d")]),
            Tree(&["d/", "d/n=n", "e=e"]),
        ),
        (
            "without a name",
            over(&[wh(".wh.")]),
            Refused(".wh.: a whiteout without a name"),
        ),
        (
            "of the directory itself",
            over(&[wh("d/.wh..")]),
            Refused("a whiteout without a name"),
        ),
        (
            "of the directory above",
            over(&[wh("d/.wh...")]),
            Refused("a whiteout without a name"),
        ),
        (
            "through a link out",
            over(&[Entry::symlink("l", "../outside"), wh("l/.wh.victim")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b", "e=e", "l->../outside"]),
        ),
        (
            "through a link inside",
            over(&[Entry::symlink("l", "d"), wh("l/.wh.a")]),
            Tree(&["d/", "d/s/", "d/s/b=b", "e=e", "l->d"]),
        ),
        (
            "of other drivers",
            over(&[wh(".wh..wh.plnk"), wh(".wh..wh.aufs")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b", "e=e"]),
        ),
        (
            "as a device of overlayfs",
            over(&[Entry::device(b'3', "e", 0, 0)]),
            Refused("marks a deleted file of overlayfs"),
        ),
        (
            "as an attribute of overlayfs",
            over(&[Entry::dir("d").record("SCHILY.xattr.trusted.overlay.opaque", "y")]),
            Refused("one of overlayfs itself"),
        ),
        (
            "as an attribute of users",
            over(&[Entry::dir("d").record("SCHILY.xattr.user.overlay.opaque", "y")]),
            Refused("one of overlayfs itself"),
        ),
        (
            "below a file",
            over(&[wh("e/.wh.x")]),
            Tree(&["d/", "d/a=a", "d/s/", "d/s/b=b", "e=e"]),
        ),
    ]);
}

#[test]
fn archives() {
    let file = Entry::file("f", b"content");
    let whole = archive(std::slice::from_ref(&file));
    let mut checksum = whole.clone();
    checksum[0] = b'g';
    let mut lone = file.bytes();
    lone.extend([0; 512]);
    lone.extend(archive(std::slice::from_ref(&file)));
    // Where one reader sees content, another would see an entry.
    let smuggled = archive(&[Entry::file("smuggled", b"x")]);
    let size_record = Entry::file("f", &smuggled)
        .size(0)
        .record("size", smuggled.len().to_string());
    run(&[
        (
            "cut in a header",
            vec![whole[..300].to_vec()],
            Refused("after the beginning: the archive ends in the middle of an entry"),
        ),
        (
            "cut in content",
            vec![whole[..515].to_vec()],
            Refused("ends in the middle"),
        ),
        (
            "cut after content",
            vec![whole[..1024].to_vec()],
            Tree(&["f=content"]),
        ),
        (
            "an extension of nothing",
            vec![tar::raw(&[extension(b'x', &record(b"path", b"a"))])],
            Refused("ends in the middle"),
        ),
        (
            "a wrong checksum",
            vec![checksum],
            Refused("the checksum of the header is wrong"),
        ),
        (
            "no archive",
            vec![b"hello, I am no archive".repeat(100)],
            Refused("the header"),
        ),
        (
            "one block of zeros",
            vec![lone],
            Refused("after f: the archive goes on after one block of zeros"),
        ),
        (
            "a size that header and extension tell differently",
            one(&[size_record]),
            Refused("header and extension differ on the size: 0 and 2048 bytes"),
        ),
        (
            "a size beyond the archive",
            one(&[Entry::file("f", b"x").size(1 << 30)]),
            Refused("ends in the middle"),
        ),
        (
            "a size beyond all archives",
            one(&[Entry::file("f", b"x").size((1 << 62) + 1)]),
            Refused("ends in the middle"),
        ),
        (
            "a size of 16 EiB by extension",
            one(&[Entry::file("f", b"").record("size", u64::MAX.to_string())]),
            Refused("ends in the middle"),
        ),
        (
            "a negative size",
            vec![negative_size()],
            Refused("the field size of the header is negative"),
        ),
        (
            "an unknown type",
            one(&[Entry::of_kind(b'Z', "f")]),
            Refused("the unknown type 'Z'"),
        ),
        (
            "a volume of several",
            one(&[Entry::of_kind(b'M', "f")]),
            Refused("the unknown type 'M'"),
        ),
        (
            "a directory with content",
            one(&[Entry {
                content: smuggled.clone(),
                ..Entry::dir("d")
            }]),
            Refused("no file has 2048 bytes"),
        ),
        (
            "a link with content",
            one(&[Entry {
                content: smuggled,
                ..Entry::symlink("l", "x")
            }]),
            Refused("no file has 2048 bytes"),
        ),
        (
            "a huge extension",
            vec![tar::raw(&[extension(b'x', &vec![b'9'; 2 << 20])])],
            Refused("an extension of 2097152 bytes is larger"),
        ),
        (
            "a record that is longer than its header",
            vec![tar::raw(&[extension(b'x', b"99 path=a\n"), file.bytes()])],
            Refused("a record of a wrong length"),
        ),
        (
            "a record without a key",
            vec![tar::raw(&[extension(b'x', b"5 =a\n"), file.bytes()])],
            Refused("a record without a key"),
        ),
        (
            "a record with a bad number",
            one(&[file.clone().record("uid", "-7")]),
            Refused("the record uid"),
        ),
        (
            "a global extension",
            vec![tar::raw(&[
                extension(b'g', &record(b"path", b"everywhere")),
                file.bytes(),
            ])],
            Tree(&["everywhere=content"]),
        ),
        (
            "a long name of GNU",
            vec![tar::raw(&[extension(b'L', b"long\0rest"), file.bytes()])],
            Tree(&["long=content"]),
        ),
        (
            "a long name of GNU with a way out",
            vec![tar::raw(&[
                extension(b'L', b"../outside/victim\0"),
                file.bytes(),
            ])],
            Refused("'..'"),
        ),
        (
            "twice the same file",
            one(&[file.clone(), Entry::file("f", b"second")]),
            Tree(&["f=second"]),
        ),
        (
            "a directory, then a file",
            one(&[Entry::dir("f"), Entry::file("f/a", b"x"), file.clone()]),
            Tree(&["f=content"]),
        ),
        (
            "a file, then a directory",
            one(&[file, Entry::dir("f")]),
            Tree(&["f/"]),
        ),
        ("empty", vec![Vec::new()], Tree(&[])),
    ]);
}

fn negative_size() -> Vec<u8> {
    let mut block = Entry::file("f", b"").header();
    block[124..136].fill(0xff);
    tar::checksum(&mut block);
    tar::raw(&[block.to_vec()])
}

#[test]
fn sparse_files() {
    let version_1 = |map: &str, size: &str| {
        let content = [tar::padded(map.as_bytes()), b"data".to_vec()].concat();
        let entry = Entry::file("f", &content)
            .record("GNU.sparse.major", "1")
            .record("GNU.sparse.minor", "0");
        one(&[entry
            .record("GNU.sparse.name", "s")
            .record("GNU.sparse.realsize", size)])
    };
    let version_0 = |map: &str| {
        one(&[Entry::file("f", b"data")
            .record("GNU.sparse.size", "8")
            .record("GNU.sparse.map", map)])
    };
    let old =
        |map: &[(u64, u64)], size| vec![tar::raw(&[tar::old_sparse("f", map, size, b"data")])];
    run(&[
        (
            "of the old format",
            old(&[(2, 4)], 8),
            Tree(&["f=\0\0data\0\0"]),
        ),
        (
            "of the old format, out of order",
            old(&[(4, 2), (0, 2)], 8),
            Refused("overlap, are out of order or lie beyond its end"),
        ),
        (
            "of the old format, beyond its end",
            old(&[(6, 4)], 8),
            Refused("lie beyond its end"),
        ),
        (
            "of the old format, with too little data",
            old(&[(0, 8)], 8),
            Refused("has 4 bytes in the archive, but its map 8"),
        ),
        (
            "version 1.0",
            version_1("1\n0\n4\n", "6"),
            Tree(&["s=data\0\0"]),
        ),
        (
            "version 1.0 without a number",
            version_1("x\n", "6"),
            Refused("the map of a sparse file cannot be read"),
        ),
        (
            "version 1.0 with too many pieces",
            version_1("99999999\n", "6"),
            Refused("more than 65536 pieces"),
        ),
        (
            "version 1.0 whose map does not end",
            version_1("3\n0\n4\n", "6"),
            Refused("map of a sparse file"),
        ),
        (
            "version 0.1",
            version_0("0,2,6,2"),
            Tree(&["f=da\0\0\0\0ta"]),
        ),
        (
            "version 0.1 with half a pair",
            version_0("0,2,6"),
            Refused("GNU.sparse.map"),
        ),
        (
            "version 0.1 with overflow",
            version_0("18446744073709551615,4"),
            Refused("lie beyond its end"),
        ),
        (
            "100 GB",
            old(&[(0, 4)], 100 << 30),
            Refused("f: the image or this file has more than 68719476736 bytes (--max-size)"),
        ),
    ]);
}

#[test]
fn attributes() {
    let file = Entry::file("f", b"x");
    let cases = [
        (
            "an owner that is none",
            one(&[file.clone().owner(u64::from(u32::MAX), 0)]),
            Refused("the owner 4294967295"),
        ),
        (
            "an owner beyond numbers",
            one(&[file.clone().record("gid", "99999999999")]),
            Refused("the owner 99999999999"),
        ),
        (
            "a device that is none",
            one(&[Entry::device(b'3', "f", 4096, 0)]),
            Refused("the device 4096:0"),
        ),
        (
            "an attribute of no namespace",
            one(&[file.clone().record("SCHILY.xattr.evil", "x")]),
            Refused("the attribute evil is in no namespace"),
        ),
        (
            "an attribute without a name",
            one(&[file.clone().record("SCHILY.xattr.user.", "x")]),
            Refused("no namespace"),
        ),
        (
            "a huge attribute",
            one(&[file.clone().record("SCHILY.xattr.user.a", long(70_000))]),
            Refused("more than 65536 bytes"),
        ),
        (
            "an attribute with a long name",
            one(&[file.record(&format!("SCHILY.xattr.user.{}", long(300)), "x")]),
            Refused("longer than 255 bytes"),
        ),
    ];
    run(&cases);
}
