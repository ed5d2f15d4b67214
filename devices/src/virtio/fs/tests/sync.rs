//! `FUSE_SYNCFS`.

use fuse_backend_rs::abi::fuse_abi::SetxattrIn;

use super::super::sync::{SYNCFS, SYNCFS_IN};
use super::*;

#[test]
fn it_is_answered_for_the_root_and_for_each_share() {
    let mut guest = Guest::new();
    guest.file("one file", b"data");
    fs::create_dir(guest.path("share")).unwrap();
    let share = guest.lookup(ROOT_ID, "share").unwrap().nodeid;
    for node in [ROOT_ID, share] {
        assert_eq!(guest.ask(SYNCFS, node, &[0; SYNCFS_IN]), Ok(Vec::new()));
    }
}

#[test]
fn it_opens_nothing_but_shares() {
    let mut guest = Guest::new();
    fs::create_dir_all(guest.path("share/below")).unwrap();
    std::os::unix::fs::symlink("/", guest.path("link")).unwrap();
    let share = guest.lookup(ROOT_ID, "share").unwrap().nodeid;
    let below = guest.lookup(share, "below").unwrap().nodeid;
    let link = guest.lookup(ROOT_ID, "link").unwrap().nodeid;
    for (node, errno) in [
        (below, libc::EINVAL),
        (link, libc::ELOOP),
        (0xdead_beef, libc::EBADF),
    ] {
        assert_eq!(guest.ask(SYNCFS, node, &[0; SYNCFS_IN]), Err(errno));
    }
    assert_eq!(guest.ask(SYNCFS, share, &[]), Err(libc::EINVAL));
}

#[test]
fn a_guest_that_ends_does_not_reach_the_disk() {
    let mut guest = Guest::new();
    let below = {
        fs::create_dir_all(guest.path("share/below")).unwrap();
        let share = guest.lookup(ROOT_ID, "share").unwrap().nodeid;
        guest.lookup(share, "below").unwrap().nodeid
    };
    let set = [
        SetxattrIn::default().as_slice(),
        LAST_SYNC.as_bytes(),
        b"\0",
    ]
    .concat();
    let sync = |guest: &mut Guest| guest.ask(SYNCFS, below, &[0; SYNCFS_IN]);
    // On another file it is an attribute like any other.
    let elsewhere = guest.ask(Opcode::Setxattr, below, &set);
    assert!(elsewhere.is_ok() || elsewhere == Err(libc::EOPNOTSUPP));
    assert_eq!(sync(&mut guest), Err(libc::EINVAL), "it looks at the share");
    assert_eq!(guest.ask(Opcode::Setxattr, ROOT_ID, &set), Ok(Vec::new()));
    assert_eq!(sync(&mut guest), Ok(Vec::new()), "it does not");
    guest.init(7, 41, u32::MAX).unwrap();
    let share = guest.lookup(ROOT_ID, "share").unwrap().nodeid;
    let below = guest.lookup(share, "below").unwrap().nodeid;
    let again = guest.ask(SYNCFS, below, &[0; SYNCFS_IN]);
    assert_eq!(again, Err(libc::EINVAL), "a new guest does not end yet");
}
