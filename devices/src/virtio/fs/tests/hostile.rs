//! What a hostile guest does (SECURITY.md, F13, F16): an errno for each, and nothing of the host beyond the directory.

use std::fs;
use std::os::unix::fs::symlink;

use fuse_backend_rs::abi::fuse_abi::{
    BatchForgetIn, CreateIn, ForgetIn, ForgetOne, GetattrIn, GetxattrIn, LinkIn, MkdirIn, MknodIn,
    Opcode, ROOT_ID, ReadIn, Rename2In, RenameIn, SetxattrIn,
};
use vm_memory::ByteValued;

use super::*;

/// Names that lead elsewhere or nowhere, with what they are answered.
fn bad_names() -> Vec<(Vec<u8>, i32)> {
    vec![
        (b"\0".to_vec(), libc::EINVAL),
        (b".\0".to_vec(), libc::EINVAL),
        (b"..\0".to_vec(), libc::EINVAL),
        (b"/\0".to_vec(), libc::EINVAL),
        (b"/etc/passwd\0".to_vec(), libc::EINVAL),
        (b"../victim\0".to_vec(), libc::EINVAL),
        (b"sub/file\0".to_vec(), libc::EINVAL),
        (b"file\0more\0".to_vec(), libc::EINVAL),
        (b"no end".to_vec(), libc::EINVAL),
        (Vec::new(), libc::EINVAL),
        ([vec![b'x'; 256], vec![0]].concat(), libc::ENAMETOOLONG),
    ]
}

fn prefixed<T: ByteValued>(fixed: T, name: &[u8]) -> Vec<u8> {
    [fixed.as_slice(), name].concat()
}

#[test]
fn names_that_lead_elsewhere_are_refused_by_each_operation() {
    let mut guest = Guest::new();
    fs::create_dir(guest.path("sub")).unwrap();
    let sub = guest.lookup(ROOT_ID, "sub").unwrap().nodeid;
    let file = guest.file("file", b"data");
    let before = names_in(guest.directory.as_path());
    for (name, errno) in bad_names() {
        let rename2 = Rename2In {
            newdir: ROOT_ID,
            ..Rename2In::default()
        };
        let bodies = [
            (Opcode::Lookup, name.clone()),
            (Opcode::Unlink, name.clone()),
            (Opcode::Rmdir, name.clone()),
            (Opcode::Symlink, [&name[..], b"target\0"].concat()),
            (
                Opcode::Mknod,
                prefixed(
                    MknodIn {
                        mode: libc::S_IFREG,
                        ..MknodIn::default()
                    },
                    &name,
                ),
            ),
            (Opcode::Mkdir, prefixed(MkdirIn::default(), &name)),
            (Opcode::Create, prefixed(CreateIn::default(), &name)),
            (Opcode::Link, prefixed(LinkIn { oldnodeid: file }, &name)),
            (
                Opcode::Rename,
                prefixed(RenameIn { newdir: sub }, &[b"file\0", &name[..]].concat()),
            ),
            (
                Opcode::Rename2,
                prefixed(rename2, &[b"file\0", &name[..]].concat()),
            ),
            (
                Opcode::Rename2,
                prefixed(rename2, &[&name[..], b"other\0"].concat()),
            ),
        ];
        for (opcode, body) in bodies {
            let answer = guest.ask(opcode, sub, &body);
            // Two strings one after the other have no place for a third or a missing end.
            let two = matches!(opcode, Opcode::Symlink | Opcode::Rename | Opcode::Rename2);
            if two && answer.is_err() {
                continue;
            }
            assert_eq!(
                answer,
                Err(errno),
                "{opcode:?} {:?}",
                String::from_utf8_lossy(&name)
            );
        }
    }
    assert_eq!(names_in(guest.directory.as_path()), before);
    assert_eq!(names_in(&guest.path("sub")), Vec::<String>::new());
}

#[test]
fn nothing_is_served_before_init_and_after_destroy() {
    let mut guest = Guest::unmounted(Cache::Auto);
    assert_eq!(guest.lookup(ROOT_ID, "x").unwrap_err(), libc::EIO);
    guest.tell(Opcode::Forget, 2, ForgetIn { nlookup: 1 }.as_slice());
    guest.init(7, 41, 0).unwrap();
    assert_eq!(guest.lookup(ROOT_ID, "x").unwrap_err(), libc::ENOENT);
    guest.ask(Opcode::Destroy, 0, &[]).unwrap();
    assert_eq!(guest.lookup(ROOT_ID, "x").unwrap_err(), libc::EIO);
}

#[test]
fn init_of_another_version() {
    let mut guest = Guest::unmounted(Cache::Auto);
    for (major, minor) in [(0, 0), (6, 99), (7, 0), (7, 12), (7, 27)] {
        assert_eq!(
            guest.init(major, minor, 0).unwrap_err(),
            libc::EPROTO,
            "{major}.{minor}"
        );
    }
    let out = guest.init(8, 0, 0).unwrap();
    assert_eq!(out.major, 7);
    assert_eq!(
        guest.lookup(ROOT_ID, "x").unwrap_err(),
        libc::EIO,
        "still not mounted"
    );
}

#[test]
fn unknown_operations() {
    let mut guest = Guest::new();
    for opcode in [
        0,
        7,
        19,
        31,
        32,
        33,
        37,
        39,
        40,
        41,
        47,
        48,
        49,
        51,
        52,
        1 << 20,
        u32::MAX,
    ] {
        let bytes = guest.request(opcode, ROOT_ID, &[0; 64]);
        assert_eq!(
            guest.send(&bytes, ROOM),
            Some(Err(libc::ENOSYS)),
            "{opcode}"
        );
    }
}

#[test]
fn lengths_that_lie() {
    let mut guest = Guest::new();
    let good = guest.request(Opcode::Lookup as u32, ROOT_ID, b"name\0");
    for len in [0, 1, 39, 40, 44, 46, 1 << 20, u32::MAX] {
        let mut bytes = good.clone();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(guest.send(&bytes, ROOM), Some(Err(libc::EINVAL)), "{len}");
    }
    for short in 0..40 {
        assert_eq!(guest.send(&good[..short.max(1)], ROOM), None, "{short}");
    }
    assert_eq!(guest.lookup(ROOT_ID, "name").unwrap_err(), libc::ENOENT);
}

#[test]
fn every_operation_with_a_body_of_every_small_length() {
    let mut guest = Guest::new();
    guest.file("file", b"data");
    for opcode in (1..=50).filter(|opcode| *opcode != Opcode::Destroy as u32) {
        for len in 0..130 {
            for fill in [0, 0x41, 0xff] {
                for nodeid in [0, ROOT_ID, u64::MAX] {
                    let bytes = guest.request(opcode, nodeid, &vec![fill; len]);
                    guest.send(&bytes, ROOM);
                }
            }
        }
    }
    guest.init(7, 41, 0).unwrap();
    assert_eq!(names_in(guest.directory.as_path()), ["file"]);
}

#[test]
fn replies_that_do_not_fit_are_refused_before_anything_is_done() {
    let mut guest = Guest::new();
    let create = CreateIn {
        flags: u32::try_from(libc::O_RDWR).unwrap(),
        mode: libc::S_IFREG | 0o600,
        ..CreateIn::default()
    };
    for room in [0, 1, 15, 16, 100, 144, 159] {
        let bytes = guest.request(Opcode::Create as u32, ROOT_ID, &with(create, &["new"]));
        let expected = (room >= 16).then_some(Err(libc::EINVAL));
        assert_eq!(guest.send(&bytes, room), expected, "{room}");
    }
    assert_eq!(names_in(guest.directory.as_path()), Vec::<String>::new());
}

#[test]
fn sizes_that_ask_for_gigabytes() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"data");
    let fh = guest.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(guest.read(node, fh, 0, u32::MAX).unwrap(), b"data");
    assert_eq!(guest.read(node, fh, u64::MAX, 16), Err(libc::EINVAL));
    let get = GetxattrIn {
        size: u32::MAX,
        padding: 0,
    };
    guest.ask(Opcode::Listxattr, node, get.as_slice()).unwrap();
    assert_eq!(
        guest.ask(Opcode::Getxattr, node, &with(get, &["user.none"])),
        Err(libc::ENODATA)
    );
    let directory: OpenOut = decode(&guest.ask(Opcode::Opendir, ROOT_ID, &[0; 8]).unwrap());
    let read = ReadIn {
        fh: directory.fh,
        size: u32::MAX,
        ..ReadIn::default()
    };
    assert!(
        !guest
            .ask(Opcode::Readdir, ROOT_ID, read.as_slice())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn values_of_attributes_whose_length_lies() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"");
    for (size, value, errno) in [
        (6, 5, libc::EINVAL),
        (4, 5, libc::EINVAL),
        (u32::MAX, 5, libc::EINVAL),
        (65_537, 65_537, libc::E2BIG),
    ] {
        let set = SetxattrIn { size, flags: 0 };
        let body = [with(set, &["user.x"]), vec![b'v'; value]].concat();
        assert_eq!(
            guest.ask(Opcode::Setxattr, node, &body),
            Err(errno),
            "{size} {value}"
        );
    }
    let set = SetxattrIn { size: 0, flags: 0 };
    assert_eq!(
        guest.ask(Opcode::Setxattr, node, set.as_slice()),
        Err(libc::EINVAL)
    );
}

#[test]
fn unknown_nodes_and_handles() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"data");
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    for unknown in [0, 2, node + 1, u64::MAX] {
        assert_eq!(guest.lookup(unknown, "x").unwrap_err(), libc::EBADF);
        assert_eq!(
            guest.open(unknown, libc::O_RDONLY).unwrap_err(),
            libc::EBADF
        );
        assert_eq!(guest.read(unknown, fh, 0, 1), Err(libc::EBADF));
        assert_eq!(guest.write(node, unknown, 0, b"x", 0), Err(libc::EBADF));
    }
    assert_eq!(
        guest.read(ROOT_ID, fh, 0, 1),
        Err(libc::EBADF),
        "another node's handle"
    );
}

#[test]
fn forgetting_too_much() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"data");
    let fh = guest.open(node, libc::O_RDONLY).unwrap().fh;
    for (nodeid, nlookup) in [(ROOT_ID, u64::MAX), (0, 1), (u64::MAX, u64::MAX), (node, 0)] {
        guest.tell(Opcode::Forget, nodeid, ForgetIn { nlookup }.as_slice());
    }
    guest.tell(
        Opcode::Forget,
        node,
        ForgetIn { nlookup: u64::MAX }.as_slice(),
    );
    guest.tell(Opcode::Forget, node, ForgetIn { nlookup: 1 }.as_slice());
    let attributes = GetattrIn::default();
    assert_eq!(
        guest.ask(Opcode::Getattr, node, attributes.as_slice()),
        Err(libc::EBADF)
    );
    assert_eq!(
        guest.read(node, fh, 0, 4).unwrap(),
        b"data",
        "an open file stays open"
    );

    let one = ForgetOne {
        nodeid: ROOT_ID,
        nlookup: 9,
    };
    for count in [0, 2, 4097, u32::MAX] {
        let batch = BatchForgetIn { count, dummy: 0 };
        let body = prefixed(batch, one.as_slice());
        guest.tell(Opcode::BatchForget, 0, &body);
    }
    guest.lookup(ROOT_ID, "file").unwrap();
}

#[test]
fn special_files_are_not_opened() {
    let mut guest = Guest::new();
    for (name, mode, rdev) in [
        ("fifo", libc::S_IFIFO, 0),
        ("socket", libc::S_IFSOCK, 0),
        ("zero", libc::S_IFCHR, 0x105),
        ("disk", libc::S_IFBLK, 0x800),
    ] {
        let mknod = MknodIn {
            mode: mode | 0o666,
            rdev,
            ..MknodIn::default()
        };
        guest
            .ask(Opcode::Mknod, ROOT_ID, &with(mknod, &[name]))
            .unwrap();
        let node = guest.lookup(ROOT_ID, name).unwrap().nodeid;
        for flags in [
            libc::O_RDONLY,
            libc::O_WRONLY,
            libc::O_RDWR | libc::O_NONBLOCK,
        ] {
            assert_eq!(guest.open(node, flags).unwrap_err(), libc::EBADF, "{name}");
        }
    }
}

#[test]
fn open_flags_do_not_reach_through_a_link() {
    let mut guest = Guest::new();
    symlink("/etc/passwd", guest.path("link")).unwrap();
    let flags = [
        libc::O_PATH,
        libc::O_TMPFILE | libc::O_RDWR,
        libc::O_ASYNC,
        -1,
        libc::O_TRUNC,
    ];
    for flags in flags {
        let create = CreateIn {
            flags: u32::from_ne_bytes(flags.to_ne_bytes()),
            mode: libc::S_IFREG | 0o600,
            ..CreateIn::default()
        };
        let answer = guest.ask(Opcode::Create, ROOT_ID, &with(create, &["link"]));
        assert!(answer.is_err(), "{flags:#o}");
    }
    let node = guest.lookup(ROOT_ID, "link").unwrap().nodeid;
    assert_eq!(guest.open(node, libc::O_RDONLY).unwrap_err(), libc::EBADF);
    assert!(!fs::read("/etc/passwd").unwrap().is_empty());
}
