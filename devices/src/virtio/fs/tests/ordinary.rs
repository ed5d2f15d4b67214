//! What a well-meaning guest does.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use fuse_backend_rs::abi::fuse_abi::{
    ATTR_SUBMOUNT, AttrOut, CreateIn, Dirent, EntryOut, FATTR_FH, FallocateIn, ForgetIn, FsOptions,
    FsyncIn, GetattrIn, GetxattrIn, GetxattrOut, LinkIn, MkdirIn, MknodIn, Opcode, OpenIn, OpenOut,
    ROOT_ID, ReadIn, ReleaseIn, Rename2In, SetattrIn, SetxattrIn, WriteOut,
};
use vm_memory::ByteValued;

use super::*;

const WRITE_KILL_PRIV: u32 = 4;

#[test]
fn init_gives_large_requests_and_keeps_locks_in_the_guest() {
    let mut guest = Guest::unmounted(Cache::Auto);
    let out = guest.init(7, 41, u32::MAX).unwrap();
    assert_eq!((out.major, out.max_write, out.max_pages), (7, MAX_IO, 256));
    let granted = FsOptions::from_bits_truncate(u64::from(out.flags));
    assert!(granted.contains(FsOptions::MAX_PAGES | FsOptions::BIG_WRITES | FsOptions::ASYNC_DIO));
    assert!(granted.contains(FsOptions::HANDLE_KILLPRIV_V2 | FsOptions::SUBMOUNTS));
    assert!(!granted.intersects(FsOptions::POSIX_LOCKS | FsOptions::FLOCK_LOCKS));
    assert!(!granted.intersects(FsOptions::EXPORT_SUPPORT | FsOptions::WRITEBACK_CACHE));
}

#[test]
fn nothing_is_granted_that_was_not_offered() {
    let mut guest = Guest::unmounted(Cache::Auto);
    let offered = FsOptions::BIG_WRITES.bits();
    let out = guest.init(7, 31, u32::try_from(offered).unwrap()).unwrap();
    assert_eq!(u64::from(out.flags), offered);
}

#[test]
fn a_file_is_read_and_written() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"hello");
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    assert_eq!(guest.read(node, fh, 0, 100).unwrap(), b"hello");
    assert_eq!(guest.read(node, fh, 5, 100).unwrap(), b"");
    let out: WriteOut = decode(&guest.write(node, fh, 5, b", world", 0).unwrap());
    assert_eq!(out.size, 7);
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"hello, world");
    let fsync = FsyncIn {
        fh,
        ..FsyncIn::default()
    };
    guest.ask(Opcode::Fsync, node, fsync.as_slice()).unwrap();
    let release = ReleaseIn {
        fh,
        ..ReleaseIn::default()
    };
    guest
        .ask(Opcode::Release, node, release.as_slice())
        .unwrap();
    assert_eq!(guest.read(node, fh, 0, 1), Err(libc::EBADF));
}

#[test]
fn the_largest_write_goes_through_in_one_request() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"");
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    let data: Vec<u8> = (0..MAX_IO)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect();
    let out: WriteOut = decode(&guest.write(node, fh, 0, &data, 0).unwrap());
    assert_eq!(out.size, MAX_IO);
    assert_eq!(guest.read(node, fh, 0, MAX_IO).unwrap(), data);
}

#[test]
fn what_a_user_makes_is_the_users() {
    let mut guest = Guest::new();
    fs::set_permissions(guest.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    (guest.uid, guest.gid) = (1234, 4321);
    let create = CreateIn {
        flags: u32::try_from(libc::O_RDWR | libc::O_EXCL).unwrap(),
        mode: libc::S_IFREG | 0o640,
        ..CreateIn::default()
    };
    guest
        .ask(Opcode::Create, ROOT_ID, &with(create, &["file"]))
        .unwrap();
    let mkdir = MkdirIn {
        mode: 0o750,
        umask: 0,
    };
    guest
        .ask(Opcode::Mkdir, ROOT_ID, &with(mkdir, &["dir"]))
        .unwrap();
    for (name, mode) in [("file", 0o640), ("dir", 0o750)] {
        let metadata = fs::metadata(guest.path(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321), "{name}");
        assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn links_and_special_files_are_made_and_seen() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"x");
    let link = LinkIn { oldnodeid: node };
    let entry: EntryOut = decode(
        &guest
            .ask(Opcode::Link, ROOT_ID, &with(link, &["hard"]))
            .unwrap(),
    );
    assert_eq!((entry.nodeid, entry.attr.nlink), (node, 2));

    let names = [named("soft"), named("/etc/passwd")].concat();
    let entry: EntryOut = decode(&guest.ask(Opcode::Symlink, ROOT_ID, &names).unwrap());
    assert_eq!(
        guest.ask(Opcode::Readlink, entry.nodeid, &[]).unwrap(),
        b"/etc/passwd"
    );
    assert_eq!(entry.attr.mode & libc::S_IFMT, libc::S_IFLNK);

    let mknod = MknodIn {
        mode: libc::S_IFIFO | 0o600,
        ..MknodIn::default()
    };
    guest
        .ask(Opcode::Mknod, ROOT_ID, &with(mknod, &["fifo"]))
        .unwrap();
    assert!(
        fs::metadata(guest.path("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn renames_exchange_and_do_not_replace_when_told_so() {
    let mut guest = Guest::new();
    guest.file("a", b"a");
    guest.file("b", b"b");
    let rename = |flags| Rename2In {
        newdir: ROOT_ID,
        flags,
        padding: 0,
    };
    let body = with(rename(libc::RENAME_NOREPLACE), &["a", "b"]);
    assert_eq!(
        guest.ask(Opcode::Rename2, ROOT_ID, &body),
        Err(libc::EEXIST)
    );
    let body = with(rename(libc::RENAME_EXCHANGE), &["a", "b"]);
    guest.ask(Opcode::Rename2, ROOT_ID, &body).unwrap();
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"b");
}

#[test]
fn a_listing_names_everything_once() {
    let mut guest = Guest::new();
    for i in 0..300 {
        fs::write(guest.path(&format!("file-{i:03}")), b"").unwrap();
    }
    let flags = u32::try_from(libc::O_RDONLY).unwrap();
    let open = OpenIn {
        flags,
        fuse_flags: 0,
    };
    let fh = decode::<OpenOut>(
        &guest
            .ask(Opcode::Opendir, ROOT_ID, open.as_slice())
            .unwrap(),
    )
    .fh;
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let read = ReadIn {
            fh,
            offset,
            size: 4096,
            ..ReadIn::default()
        };
        let body = guest
            .ask(Opcode::Readdir, ROOT_ID, read.as_slice())
            .unwrap();
        if body.is_empty() {
            break;
        }
        let mut rest = &body[..];
        while !rest.is_empty() {
            let entry: Dirent = decode(rest);
            let end = 24 + entry.namelen as usize;
            names.push(String::from_utf8(rest[24..end].to_vec()).unwrap());
            offset = entry.off;
            rest = &rest[end.next_multiple_of(8)..];
        }
    }
    names.sort();
    assert_eq!(names, names_in(guest.directory.as_path()));
}

#[test]
fn directories_of_the_root_are_announced_as_mounts_of_their_own() {
    let mut guest = Guest::new();
    fs::create_dir_all(guest.path("dir/below")).unwrap();
    guest.file("file", b"");
    let entry = guest.lookup(ROOT_ID, "dir").unwrap();
    assert_eq!(entry.attr.flags, ATTR_SUBMOUNT);
    assert_eq!(guest.lookup(entry.nodeid, "below").unwrap().attr.flags, 0);
    assert_eq!(guest.lookup(ROOT_ID, "file").unwrap().attr.flags, 0);

    let fh = decode::<OpenOut>(&guest.ask(Opcode::Opendir, ROOT_ID, &[0; 8]).unwrap()).fh;
    let read = ReadIn {
        fh,
        size: 4096,
        ..ReadIn::default()
    };
    let mut rest = &guest
        .ask(Opcode::Readdirplus, ROOT_ID, read.as_slice())
        .unwrap()[..];
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let entry: EntryOut = decode(rest);
        let dirent: Dirent = decode(&rest[128..]);
        let end = 152 + dirent.namelen as usize;
        seen.push((
            String::from_utf8_lossy(&rest[152..end]).into_owned(),
            entry.attr.flags,
        ));
        rest = &rest[end.next_multiple_of(8)..];
    }
    seen.sort();
    assert_eq!(
        seen,
        [("dir".to_owned(), ATTR_SUBMOUNT), ("file".to_owned(), 0)]
    );
}

#[test]
fn extended_attributes_come_and_go() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"");
    let set = SetxattrIn { size: 5, flags: 0 };
    let body = [with(set, &["user.husk"]), b"value".to_vec()].concat();
    guest.ask(Opcode::Setxattr, node, &body).unwrap();
    let get = |size| with(GetxattrIn { size, padding: 0 }, &["user.husk"]);
    let out: GetxattrOut = decode(&guest.ask(Opcode::Getxattr, node, &get(0)).unwrap());
    assert_eq!(out.size, 5);
    assert_eq!(
        guest.ask(Opcode::Getxattr, node, &get(100)).unwrap(),
        b"value"
    );
    assert_eq!(
        guest.ask(Opcode::Getxattr, node, &get(4)),
        Err(libc::ERANGE)
    );
    let list = GetxattrIn {
        size: 4096,
        padding: 0,
    };
    let names = guest.ask(Opcode::Listxattr, node, list.as_slice()).unwrap();
    assert!(names.windows(10).any(|part| part == b"user.husk\0"));
    guest
        .ask(Opcode::Removexattr, node, &named("user.husk"))
        .unwrap();
    assert_eq!(
        guest.ask(Opcode::Getxattr, node, &get(0)),
        Err(libc::ENODATA)
    );
}

#[test]
fn set_user_id_bits_go_when_a_user_writes_truncates_or_allocates() {
    let suid = |guest: &Guest| fs::metadata(guest.path("file")).unwrap().mode() & 0o6000;
    let mut guest = Guest::new();
    let node = guest.file("file", b"data");
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    let arm = |guest: &Guest| {
        fs::set_permissions(guest.path("file"), fs::Permissions::from_mode(0o6777)).unwrap();
    };

    arm(&guest);
    guest.write(node, fh, 0, b"root", 0).unwrap();
    assert_eq!(suid(&guest), 0o6000, "root's writes keep them");
    guest.write(node, fh, 0, b"user", WRITE_KILL_PRIV).unwrap();
    assert_eq!(suid(&guest), 0, "write");

    arm(&guest);
    let truncate = SetattrIn {
        valid: (1 << 3) | (1 << 11),
        size: 1,
        ..SetattrIn::default()
    };
    guest
        .ask(Opcode::Setattr, node, truncate.as_slice())
        .unwrap();
    assert_eq!(suid(&guest), 0, "truncate");

    arm(&guest);
    let allocate = FallocateIn {
        fh,
        length: 4096,
        ..FallocateIn::default()
    };
    guest
        .ask(Opcode::Fallocate, node, allocate.as_slice())
        .unwrap();
    assert_eq!(suid(&guest), 0o6000, "root's allocation keeps them");
    guest.uid = 1000;
    guest
        .ask(Opcode::Fallocate, node, allocate.as_slice())
        .unwrap();
    assert_eq!(suid(&guest), 0, "allocate");
}

#[test]
fn times_modes_and_owners_are_set() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"");
    let set = SetattrIn {
        valid: 1 | 2 | 4 | (1 << 5),
        mode: libc::S_IFREG | 0o604,
        uid: 7,
        gid: 8,
        mtime: 1_000_000,
        mtimensec: 5,
        ..SetattrIn::default()
    };
    let out: AttrOut = decode(&guest.ask(Opcode::Setattr, node, set.as_slice()).unwrap());
    assert_eq!((out.attr.uid, out.attr.gid), (7, 8));
    assert_eq!((out.attr.mtime, out.attr.mtimensec), (1_000_000, 5));
    assert_eq!(out.attr.mode, libc::S_IFREG | 0o604);
    let by_handle = SetattrIn {
        valid: 1 | FATTR_FH,
        mode: libc::S_IFREG | 0o600,
        fh: 12345,
        ..SetattrIn::default()
    };
    let out: AttrOut = decode(
        &guest
            .ask(Opcode::Setattr, node, by_handle.as_slice())
            .unwrap(),
    );
    assert_eq!(
        out.attr.mode,
        libc::S_IFREG | 0o600,
        "a mode goes to the inode, not to an open file"
    );
}

#[test]
fn a_file_deleted_while_open_lives_until_it_is_closed() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"still here");
    let fh = guest.open(node, libc::O_RDONLY).unwrap().fh;
    guest.ask(Opcode::Unlink, ROOT_ID, &named("file")).unwrap();
    assert_eq!(guest.lookup(ROOT_ID, "file").unwrap_err(), libc::ENOENT);
    assert_eq!(guest.read(node, fh, 0, 100).unwrap(), b"still here");
}

#[test]
fn a_new_mount_begins_with_nothing() {
    let mut guest = Guest::new();
    let node = guest.file("file", b"x");
    guest.init(7, 41, u32::MAX).unwrap();
    let attributes = GetattrIn::default();
    assert_eq!(
        guest.ask(Opcode::Getattr, node, attributes.as_slice()),
        Err(libc::EBADF)
    );
    guest.lookup(ROOT_ID, "file").unwrap();
}

#[test]
fn forgetting_frees_the_descriptor() {
    let mut guest = Guest::new();
    let open = || names_in(Path::new("/proc/self/fd")).len();
    for i in 0..200 {
        fs::write(guest.path(&format!("{i}")), b"").unwrap();
    }
    let before = open();
    let nodes: Vec<u64> = (0..200)
        .map(|i| guest.lookup(ROOT_ID, &format!("{i}")).unwrap().nodeid)
        .collect();
    assert!(open() >= before + 150);
    for node in nodes {
        guest.tell(Opcode::Forget, node, ForgetIn { nlookup: 1 }.as_slice());
    }
    assert!(open() < before + 100);
}

#[test]
fn a_link_is_never_followed_by_the_host() {
    let mut guest = Guest::new();
    symlink("/etc", guest.path("out")).unwrap();
    let entry = guest.lookup(ROOT_ID, "out").unwrap();
    assert_eq!(entry.attr.mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(
        guest.lookup(entry.nodeid, "passwd").unwrap_err(),
        libc::ENOTDIR
    );
}
