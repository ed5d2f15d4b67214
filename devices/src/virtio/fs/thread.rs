//! What the thread that serves a file system must be before it does.
#![expect(
    unsafe_code,
    reason = "unshare can part a thread from what others share with it"
)]

use std::hash::RandomState;
use std::hint::black_box;
use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, UnshareFlags, capabilities_secure_bits, set_capabilities_secure_bits,
    unshare_unsafe,
};

/// Prepares the calling thread: to be called first thing in the thread that will own the device's worker, before it lays
/// down capabilities and system calls.
///
/// - A umask of its own: the server clears it when a guest mounts, and the rest of the process must not make its files with none.
/// - Capabilities that stay while it acts under a user's id. The guest's kernel has checked what the user may do, with all
///   the groups that the user is in; the protocol tells the server of one only, so that the host's kernel would refuse too much.
///   Without `CAP_SETPCAP` (a VMM that is not root) there is no capability to keep, and ids are not changed either.
/// - The random keys of its hash tables, which the standard library draws once a thread: the server's sets of capabilities are such
///   tables, and the first may be made for a guest's write, when `getrandom` is no longer among the thread's calls.
pub fn prepare_thread() -> io::Result<()> {
    black_box(RandomState::new());
    // SAFETY: the new thread has not used its root, working directory or umask, and no other thread relies on changes by it.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    let bits = capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP;
    match set_capabilities_secure_bits(bits) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CapabilitySet, capabilities};

    use super::*;

    #[test]
    fn capabilities_outlast_a_change_of_user() {
        std::thread::spawn(|| {
            prepare_thread().unwrap();
            let before = capabilities(None).unwrap().effective;
            assert!(
                before.contains(CapabilitySet::DAC_OVERRIDE),
                "the tests run as root"
            );
            // SAFETY: changes the effective id of this thread only.
            unsafe { libc::syscall(libc::SYS_setresuid, -1, 1000, -1) };
            assert_eq!(capabilities(None).unwrap().effective, before);
        })
        .join()
        .unwrap();
    }
}
