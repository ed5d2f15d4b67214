//! Layers that were made to do harm, and such as are only odd, in their names and links: each ends in a typed error that names the layer
//! and the entry, or in a tree that is exactly the one described. None writes outside, and none leaves anything behind.
#![expect(clippy::too_many_lines, reason = "they are tables")]

mod support;

use support::hostile::Outcome::{Refused, Tree};
use support::hostile::{long, one, run, two};
use support::tar::Entry;

#[test]
fn names() {
    let file = |name: &str| one(&[Entry::file(name, b"x")]);
    let deep = |depth: usize| one(&[Entry::dir("a").record("path", "d/".repeat(depth) + "d")]);
    run(&[
        (
            "parent",
            file("../outside/victim"),
            Refused("../outside/victim: the name has a part that is '..'"),
        ),
        (
            "parent in the middle",
            file("a/../../outside/victim"),
            Refused("'..'"),
        ),
        (
            "parent at the end",
            one(&[Entry::dir("a/..")]),
            Refused("'..'"),
        ),
        ("parent that stays inside", file("a/../b"), Refused("'..'")),
        ("absolute", file("/husk-escaped"), Tree(&["husk-escaped=x"])),
        ("many slashes", file("//a///b"), Tree(&["a/", "a/b=x"])),
        ("dots", file("./././a"), Tree(&["a=x"])),
        (
            "a name of 255 bytes and one more",
            one(&[Entry::file("", b"x").record("path", long(256))]),
            Refused("a part longer than 255 bytes"),
        ),
        (
            "a path longer than Linux has",
            one(&[Entry::file("", b"x").record("path", "p/".repeat(2100))]),
            Refused("more than 4095 bytes"),
        ),
        (
            "a name with a NUL",
            one(&[Entry::file("", b"x").record("path", "a\0b")]),
            Refused("NUL byte"),
        ),
        (
            "a name that is no text",
            one(&[Entry::file(b"\xff\x1b[2J", b"x")]),
            Tree(&["\u{fffd}\u{1b}[2J=x"]),
        ),
        (
            "no name for a file",
            file(""),
            Refused("/: the root can only be a directory"),
        ),
        (
            "the root as a link",
            one(&[Entry::symlink("./", "/outside")]),
            Refused("the root can only be a directory"),
        ),
        (
            "deeper than allowed",
            deep(300),
            Refused("more than 256 directories deep (--max-depth)"),
        ),
        (
            "backslashes are no slashes",
            file("..\\outside"),
            Tree(&["..\\outside=x"]),
        ),
        ("three dots are a name", file("..."), Tree(&["...=x"])),
        ("a newline", file("a\nb"), Tree(&["a\nb=x"])),
    ]);
}

#[test]
fn symbolic_links_on_the_way() {
    let through = |target: &str, name: &str| {
        one(&[
            Entry::dir("in"),
            Entry::symlink("link", target),
            Entry::file(name, b"x"),
        ])
    };
    let across = |target: &str, name: &str| {
        two(
            &[Entry::dir("in"), Entry::symlink("link", target)],
            &[Entry::file(name, b"x")],
        )
    };
    let chain: Vec<Entry> = (0..50)
        .map(|n| Entry::symlink(format!("l{n}"), &format!("l{}", n + 1)))
        .collect();
    let chain = [chain, vec![Entry::dir("l50"), Entry::file("l0/x", b"x")]].concat();
    run(&[
        (
            "out by a relative link",
            through("../outside", "link/victim"),
            Refused("link/victim: a symbolic link on the way leads to nothing"),
        ),
        (
            "out by an absolute link",
            through("/outside", "link/victim"),
            Refused("leads to nothing"),
        ),
        (
            "out by a link of the layer below",
            across("../../outside", "link/victim"),
            Refused("leads to nothing"),
        ),
        (
            "to the root of the image",
            through("/", "link/husk-escaped"),
            Tree(&["husk-escaped=x", "in/", "link->/"]),
        ),
        (
            "above the root of the image",
            through("../../../../..", "link/a"),
            Tree(&["a=x", "in/", "link->../../../../.."]),
        ),
        (
            "inside",
            across("in", "link/a"),
            Tree(&["in/", "in/a=x", "link->in"]),
        ),
        (
            "inside by an absolute link",
            across("/in", "link/a"),
            Tree(&["in/", "in/a=x", "link->/in"]),
        ),
        (
            "inside and up again",
            across("in/../in/.", "link/a"),
            Tree(&["in/", "in/a=x", "link->in/../in/."]),
        ),
        (
            "to itself",
            across("link", "link/a"),
            Refused("more than 40 symbolic links"),
        ),
        (
            "a long chain",
            one(&chain),
            Refused("more than 40 symbolic links"),
        ),
        (
            "through a file",
            one(&[Entry::file("f", b""), Entry::file("f/a", b"x")]),
            Refused("something on the way is no directory"),
        ),
        (
            "a file in the place of a link",
            across("../outside/victim", "link"),
            Tree(&["in/", "link=x"]),
        ),
        (
            "a directory in the place of a link",
            two(
                &[Entry::symlink("link", "../outside")],
                &[Entry::dir("link"), Entry::file("link/victim", b"x")],
            ),
            Tree(&["link/", "link/victim=x"]),
        ),
        (
            "a link in the place of a directory",
            two(
                &[Entry::dir("d"), Entry::file("d/a", b"x")],
                &[Entry::symlink("d", "../outside")],
            ),
            Tree(&["d->../outside"]),
        ),
        (
            "a mode through a link",
            one(&[
                Entry::symlink("link", "../outside"),
                Entry::dir("link").mode(0o777),
            ]),
            Tree(&["link/"]),
        ),
        (
            "a link without a target",
            one(&[Entry::symlink("link", "")]),
            Refused("a symbolic link without a target"),
        ),
        (
            "made under way below a link",
            across("in", "link/b/c"),
            Tree(&["in/", "in/b/", "in/b/c=x", "link->in"]),
        ),
    ]);
}

#[test]
fn hard_links() {
    let file = Entry::file("f", b"x");
    run(&[
        (
            "to nothing",
            one(&[Entry::hard_link("a", "none")]),
            Refused("a: a hard link to none, which does not exist"),
        ),
        (
            "out",
            one(&[Entry::hard_link("a", "../outside/victim")]),
            Refused("'..'"),
        ),
        (
            "to a file of the host",
            one(&[Entry::hard_link("a", "/etc/passwd")]),
            Refused("does not exist"),
        ),
        (
            "out through a link",
            one(&[
                Entry::symlink("l", "../outside"),
                Entry::hard_link("a", "l/victim"),
            ]),
            Refused("does not exist"),
        ),
        (
            "to a directory",
            one(&[Entry::dir("d"), Entry::hard_link("a", "d")]),
            Refused("which is a directory"),
        ),
        (
            "to the root",
            one(&[Entry::hard_link("a", "/")]),
            Refused("which is a directory"),
        ),
        (
            "to itself",
            one(&[file.clone(), Entry::hard_link("f", "f")]),
            Refused("a hard link to itself"),
        ),
        (
            "to itself when it is not there",
            one(&[Entry::hard_link("f", "f")]),
            Refused("does not exist"),
        ),
        (
            "to a later entry",
            one(&[Entry::hard_link("a", "f"), file.clone()]),
            Refused("does not exist"),
        ),
        (
            "to what it replaces",
            one(&[
                Entry::dir("d"),
                Entry::file("d/f", b"x"),
                Entry::hard_link("d", "d/f"),
            ]),
            Refused("does not exist"),
        ),
        (
            "to a link is one to the link",
            one(&[
                Entry::symlink("l", "../outside/victim"),
                Entry::hard_link("a", "l"),
            ]),
            Tree(&["a->../outside/victim", "l->../outside/victim"]),
        ),
        (
            "with content",
            one(&[file.clone(), Entry::hard_link("a", "f").size(1)]),
            Refused("an entry that is no file has 1 bytes of content"),
        ),
        (
            "to a file of the layer below",
            two(std::slice::from_ref(&file), &[Entry::hard_link("a", "/f")]),
            Tree(&["a=x", "f=x"]),
        ),
        (
            "to a file that goes",
            two(
                std::slice::from_ref(&file),
                &[Entry::hard_link("a", "f"), Entry::file(".wh.f", b"")],
            ),
            Tree(&["a=x"]),
        ),
        (
            "twice the same",
            one(&[
                file.clone(),
                Entry::hard_link("a", "f"),
                Entry::hard_link("a", "f"),
            ]),
            Tree(&["a=x", "f=x"]),
        ),
        (
            "then written again",
            one(&[file, Entry::hard_link("a", "f"), Entry::file("f", b"y")]),
            Tree(&["a=x", "f=y"]),
        ),
    ]);
}
