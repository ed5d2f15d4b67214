//! Capabilities, resource limits, namespaces and the other attributes of the process.
#![expect(
    unsafe_code,
    reason = "unshare can part a thread from what others share with it"
)]

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags,
    clear_ambient_capability_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    unshare_unsafe,
};

use super::{ConfineError, ThreadKind};

/// Most file descriptors, if the hard limit allows so many. The fs server is the only large user: it holds one for every file that
/// the guest's kernel remembers, so that this is also the bound of what a guest can make it remember.
const MAX_FILES: u64 = 1 << 20;

/// Gives up what no thread needs. Called once, before any further thread exists, since these attributes are inherited.
pub(crate) fn process() -> Result<(), ConfineError> {
    leave_namespaces()?;
    set_no_new_privs(true).map_err(attribute("no_new_privs"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(attribute("dumpable"))?;
    let core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, core).map_err(attribute("the limit on core dumps"))?;
    // Never more than was allowed: raising the hard limit is a privilege.
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(MAX_FILES);
    let files = Some(MAX_FILES.min(allowed));
    let files = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, files).map_err(attribute("the limit on open files"))?;
    lock_secure_bits()
}

/// No shared memory, queues or names of the host's, nor its network: taps and sockets are open already, and a socket that is reached
/// by a path is in no network. The mount namespace is entered with the shares.
fn leave_namespaces() -> Result<(), ConfineError> {
    let namespaces = UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWNET;
    // SAFETY: none of them takes away what another thread could have, and there is no other thread.
    unsafe { unshare_unsafe(namespaces) }.map_err(attribute("namespaces"))
}

/// Becoming or executing as user 0 gains nothing, for ever. Losing capabilities by becoming somebody else is left as it is, for
/// all threads but the one that serves files: it sets `NO_SETUID_FIXUP` for itself, since it keeps them while it acts under the
/// id of a guest's user (`devices::virtio::fs::prepare_thread`).
fn lock_secure_bits() -> Result<(), ConfineError> {
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    match set_capabilities_secure_bits(bits) {
        // Without CAP_SETPCAP (a rootless user) there is nothing to lock: no capability can be had.
        Err(rustix::io::Errno::PERM) => Ok(()),
        outcome => outcome.map_err(attribute("secure bits")),
    }
}

fn attribute(name: &'static str) -> impl Fn(rustix::io::Errno) -> ConfineError {
    move |error| ConfineError::Attribute(name, io::Error::from(error))
}

/// What a thread of `kind` keeps. The fs server acts as the guest's users on the host's files, as virtio-fs servers do.
fn kept(kind: ThreadKind) -> CapabilitySet {
    match kind {
        ThreadKind::Main | ThreadKind::Vcpu | ThreadKind::Blk | ThreadKind::Net => {
            CapabilitySet::empty()
        }
        ThreadKind::Fs => {
            CapabilitySet::CHOWN
                | CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::DAC_READ_SEARCH
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID
                | CapabilitySet::SETGID
                | CapabilitySet::SETUID
                | CapabilitySet::MKNOD
                | CapabilitySet::SETFCAP
        }
    }
}

/// Reduces the calling thread's capabilities to what its kind keeps, out of what it has.
pub(super) fn drop_capabilities(kind: ThreadKind) -> Result<(), ConfineError> {
    let fail = |error| ConfineError::Capabilities(kind, io::Error::from(error));
    clear_ambient_capability_set().map_err(fail)?;
    let had = rustix::thread::capabilities(None).map_err(fail)?;
    let keep = had.permitted & kept(kind);
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fs_thread_keeps_capabilities_and_none_that_administers_the_host() {
        for kind in [
            ThreadKind::Main,
            ThreadKind::Vcpu,
            ThreadKind::Blk,
            ThreadKind::Net,
        ] {
            assert!(kept(kind).is_empty(), "{kind:?}");
        }
        let host = CapabilitySet::SYS_ADMIN
            | CapabilitySet::SYS_PTRACE
            | CapabilitySet::SYS_MODULE
            | CapabilitySet::SYS_RAWIO
            | CapabilitySet::NET_ADMIN
            | CapabilitySet::KILL;
        assert!(!kept(ThreadKind::Fs).intersects(host));
    }

    #[test]
    fn a_thread_drops_what_its_kind_does_not_keep() {
        std::thread::spawn(|| {
            drop_capabilities(ThreadKind::Vcpu).unwrap();
            let sets = rustix::thread::capabilities(None).unwrap();
            assert!(sets.permitted.is_empty() && sets.effective.is_empty());
        })
        .join()
        .unwrap();
    }
}
