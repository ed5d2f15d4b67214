//! `FUSE_SYNCFS`.

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
