//! A share that the host mounted read-only (SECURITY.md, F17): whatever writes gets an error, and nothing changes.
#![expect(unsafe_code, reason = "a mount namespace for the test's thread")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, FallocateIn, LinkIn, MkdirIn, MknodIn, Opcode, ROOT_ID, Rename2In, RenameIn,
    SetattrIn, SetxattrIn,
};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use vm_memory::ByteValued;

use super::*;

/// Runs `test` in a thread of its own, with `directory` read-only for that thread.
fn read_only(directory: &Path, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the thread ends with the test, and shares no path with others.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount_bind(directory, directory).unwrap();
            mount_remount(directory, MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
            test();
        });
    });
}

/// Names, contents and change times.
fn state(directory: &Path) -> Vec<(String, Vec<u8>, i64, i64)> {
    names_in(directory)
        .into_iter()
        .map(|name| {
            let path = directory.join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let data = if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            (name, data, metadata.ctime(), metadata.ctime_nsec())
        })
        .collect()
}

/// Every request that would change a directory or an attribute, with the body that it needs.
fn writes(file: u64) -> Vec<(Opcode, u64, Vec<u8>)> {
    let mode = libc::S_IFREG | 0o600;
    let mknod = MknodIn {
        mode,
        ..MknodIn::default()
    };
    let create = CreateIn {
        flags: u32::try_from(libc::O_RDWR).unwrap(),
        mode,
        ..CreateIn::default()
    };
    let link = LinkIn { oldnodeid: file };
    let rename = RenameIn { newdir: ROOT_ID };
    let exchange = Rename2In {
        newdir: ROOT_ID,
        flags: libc::RENAME_EXCHANGE,
        padding: 0,
    };
    let attribute = SetxattrIn { size: 1, flags: 0 };
    vec![
        (Opcode::Mknod, ROOT_ID, with(mknod, &["new"])),
        (Opcode::Mkdir, ROOT_ID, with(MkdirIn::default(), &["new"])),
        (Opcode::Create, ROOT_ID, with(create, &["new"])),
        (Opcode::Create, ROOT_ID, with(create, &["file"])),
        (
            Opcode::Symlink,
            ROOT_ID,
            [named("new"), named("to")].concat(),
        ),
        (Opcode::Link, ROOT_ID, with(link, &["new"])),
        (Opcode::Unlink, ROOT_ID, named("file")),
        (Opcode::Rmdir, ROOT_ID, named("dir")),
        (Opcode::Rename, ROOT_ID, with(rename, &["file", "new"])),
        (Opcode::Rename2, ROOT_ID, with(exchange, &["file", "dir"])),
        (
            Opcode::Setxattr,
            file,
            [with(attribute, &["user.x"]), vec![b'v']].concat(),
        ),
        (Opcode::Removexattr, file, named("user.x")),
    ]
}

/// The same of those that only touch the file itself.
fn touches(file: u64) -> Vec<(Opcode, u64, Vec<u8>)> {
    let mut all = Vec::new();
    // Mode, owner, group, size, and both times.
    for valid in [1, 2, 4, 8, 1 << 4 | 1 << 7, 1 << 5 | 1 << 8] {
        let set = SetattrIn {
            valid,
            ..SetattrIn::default()
        };
        all.push((Opcode::Setattr, file, set.as_slice().to_vec()));
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC] {
        let open = OpenIn {
            flags: u32::try_from(flags).unwrap(),
            fuse_flags: 0,
        };
        all.push((Opcode::Open, file, open.as_slice().to_vec()));
    }
    all
}

#[test]
fn nothing_changes_a_read_only_share() {
    let mut guest = Guest::unmounted(Cache::Auto);
    fs::write(guest.path("file"), "data").unwrap();
    fs::create_dir(guest.path("dir")).unwrap();
    symlink("file", guest.path("link")).unwrap();
    let directory = guest.directory.as_path().to_owned();
    let before = state(&directory);
    read_only(&directory, || {
        guest.init(7, 41, u32::MAX).unwrap();
        let file = guest.lookup(ROOT_ID, "file").unwrap().nodeid;
        for (opcode, nodeid, body) in writes(file).into_iter().chain(touches(file)) {
            assert_eq!(
                guest.ask(opcode, nodeid, &body),
                Err(libc::EROFS),
                "{opcode:?}"
            );
        }
        let fh = guest.open(file, libc::O_RDONLY).unwrap().fh;
        assert_eq!(guest.write(file, fh, 0, b"x", 0), Err(libc::EBADF));
        let allocate = FallocateIn {
            fh,
            length: 4096,
            ..FallocateIn::default()
        };
        assert_eq!(
            guest.ask(Opcode::Fallocate, file, allocate.as_slice()),
            Err(libc::EBADF)
        );
        assert_eq!(guest.read(file, fh, 0, 10).unwrap(), b"data");
        drop(guest.server);
    });
    assert_eq!(state(&directory), before);
}
