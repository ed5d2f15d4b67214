//! The system calls that each kind of thread may make: data, with a reason where the name does not give one.
//!
//! Found by tracing the end-to-end tests thread by thread. Whoever adds one says which code makes it.

use super::ThreadKind;
use super::ioctls;

/// One allowed call.
pub(super) struct Allow {
    pub(super) call: i64,
    pub(super) pinned: Option<Arg>,
}

/// An argument (compared as 32 bits) and the only values it may have.
pub(super) struct Arg {
    pub(super) index: u8,
    pub(super) values: &'static [u64],
}

const fn any(call: i64) -> Allow {
    Allow { call, pinned: None }
}

const fn only(call: i64, index: u8, values: &'static [u64]) -> Allow {
    Allow {
        call,
        pinned: Some(Arg { index, values }),
    }
}

const PRIVATE_FUTEX: &[u64] = &[
    (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as u64,
    (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64,
    (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG) as u64,
];

/// Memory is never executable.
const READ_WRITE: &[u64] = &[
    libc::PROT_NONE as u64,
    (libc::PROT_READ | libc::PROT_WRITE) as u64,
];

/// What the allocator, locks and messages need, in any thread.
const EVERY: &[Allow] = &[
    any(libc::SYS_brk),
    // Only where the host's clock cannot be read in user space.
    any(libc::SYS_clock_gettime),
    any(libc::SYS_close),
    only(libc::SYS_futex, 1, PRIVATE_FUTEX),
    only(libc::SYS_madvise, 2, &[libc::MADV_DONTNEED as u64]),
    only(libc::SYS_mmap, 2, READ_WRITE),
    only(libc::SYS_mprotect, 2, READ_WRITE),
    any(libc::SYS_mremap),
    any(libc::SYS_munmap),
    // eventfds, the serial port's output, the log.
    any(libc::SYS_write),
];

/// The end of the thread. Workers have none: they rest until the process ends.
const END: &[Allow] = &[
    any(libc::SYS_exit),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_sigaltstack),
];

/// Kicks the processors when the machine pauses or ends: pthread_kill, which names the process by getpid. The kicked one returns
/// from its signal handler.
const KICK: &[Allow] = &[
    any(libc::SYS_getpid),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_tgkill),
];

/// An unoptimised build looks at each descriptor that it closes.
const UNOPTIMISED: &[Allow] = if cfg!(debug_assertions) {
    &[only(libc::SYS_fcntl, 1, &[libc::F_GETFD as u64])]
} else {
    &[]
};

const VCPU: &[Allow] = &[only(
    libc::SYS_ioctl,
    1,
    &[
        ioctls::KVM_RUN,
        // After a pause.
        ioctls::KVM_KVMCLOCK_CTRL,
        ioctls::KVM_SET_GSI_ROUTING,
        ioctls::KVM_IRQFD,
        ioctls::KVM_IOEVENTFD,
    ],
)];

const WORKER: &[Allow] = &[
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_epoll_wait),
    any(libc::SYS_read),
];

const BLK: &[Allow] = &[
    any(libc::SYS_fallocate),
    any(libc::SYS_fdatasync),
    any(libc::SYS_preadv),
    any(libc::SYS_pwritev),
    only(
        libc::SYS_ioctl,
        1,
        &[ioctls::BLKDISCARD, ioctls::BLKZEROOUT],
    ),
];

const NET: &[Allow] = &[
    any(libc::SYS_readv),
    any(libc::SYS_writev),
    // What the guest agreed on, and how many queues it uses.
    only(
        libc::SYS_ioctl,
        1,
        &[ioctls::TUNSETOFFLOAD, ioctls::TUNSETQUEUE],
    ),
];

/// Calls of fuse-backend-rs, all on descriptors but for extended attributes, which it reaches by `/proc/self/fd/N`.
const FS: &[Allow] = &[
    // Capabilities and ids of the guest's caller, for one request.
    any(libc::SYS_capget),
    any(libc::SYS_capset),
    any(libc::SYS_setresgid),
    any(libc::SYS_setresuid),
    // Once, at a guest's mount.
    any(libc::SYS_umask),
    // On FLUSH it closes a duplicate, as the guest's process closes its file.
    any(libc::SYS_dup),
    any(libc::SYS_fallocate),
    any(libc::SYS_fchmodat),
    any(libc::SYS_fchownat),
    // O_APPEND and O_DIRECT, changed by the guest on an open file; F_GETFD as in UNOPTIMISED.
    only(
        libc::SYS_fcntl,
        1,
        &[libc::F_SETFL as u64, libc::F_GETFD as u64],
    ),
    any(libc::SYS_fdatasync),
    any(libc::SYS_fstatfs),
    any(libc::SYS_fsync),
    any(libc::SYS_ftruncate),
    any(libc::SYS_getdents64),
    any(libc::SYS_getxattr),
    any(libc::SYS_linkat),
    any(libc::SYS_listxattr),
    any(libc::SYS_lseek),
    any(libc::SYS_mkdirat),
    any(libc::SYS_mknodat),
    any(libc::SYS_newfstatat),
    any(libc::SYS_openat),
    any(libc::SYS_preadv),
    any(libc::SYS_pwritev),
    any(libc::SYS_readlinkat),
    any(libc::SYS_removexattr),
    any(libc::SYS_renameat2),
    any(libc::SYS_setxattr),
    any(libc::SYS_statx),
    any(libc::SYS_symlinkat),
    any(libc::SYS_syncfs),
    any(libc::SYS_unlinkat),
    any(libc::SYS_utimensat),
];

const MAIN: &[Allow] = &[
    any(libc::SYS_exit_group),
    // Clients of the API and of the vsock device; a guest's connection to the host.
    any(libc::SYS_accept4),
    any(libc::SYS_connect),
    any(libc::SYS_recvfrom),
    any(libc::SYS_recvmsg),
    any(libc::SYS_sendmsg),
    any(libc::SYS_sendto),
    any(libc::SYS_shutdown),
    only(libc::SYS_socket, 0, &[libc::AF_UNIX as u64]),
    // The vsock device's time-outs.
    any(libc::SYS_timerfd_settime),
    // The entropy device.
    any(libc::SYS_getrandom),
    // A console whose reader is slow.
    any(libc::SYS_ppoll),
    any(libc::SYS_poll),
    // The API keeps a descriptor in reserve, to turn clients away when there are no more.
    any(libc::SYS_eventfd2),
    // The vsock socket's name, at the end.
    any(libc::SYS_unlink),
    only(libc::SYS_ioctl, 1, &[ioctls::FIONBIO]),
];

/// The tables that make up the filter of `kind`.
pub(super) fn filter(kind: ThreadKind) -> &'static [&'static [Allow]] {
    match kind {
        ThreadKind::Main => &[EVERY, END, KICK, UNOPTIMISED, WORKER, MAIN],
        ThreadKind::Vcpu => &[EVERY, END, KICK, UNOPTIMISED, VCPU],
        ThreadKind::Blk => &[EVERY, UNOPTIMISED, WORKER, BLK],
        ThreadKind::Net => &[EVERY, UNOPTIMISED, WORKER, NET],
        ThreadKind::Fs => &[EVERY, WORKER, FS],
    }
}
