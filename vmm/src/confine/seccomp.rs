//! From the tables of [`filters`](super::filters) to a filter in the kernel.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::filters::{Allow, Arg, filter};
use super::{ConfineError, ThreadKind};

/// Installs the filter of `kind` for the calling thread. A call that is not listed kills the process: a VMM that makes one is
/// no longer ours.
pub(super) fn install(kind: ThreadKind) -> Result<(), ConfineError> {
    let program = compile(kind).map_err(|error| ConfineError::Filter(kind, error))?;
    seccompiler::apply_filter(&program).map_err(|error| ConfineError::Seccomp(kind, error))
}

fn compile(kind: ThreadKind) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allow in filter(kind).iter().copied().flatten() {
        let entry = rules.entry(allow.call).or_default();
        entry.extend(alternatives(allow)?);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    filter.try_into()
}

/// One rule for each value a pinned argument may have; none at all where no argument is pinned.
fn alternatives(allow: &Allow) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let Some(Arg { index, values }) = allow.pinned else {
        return Ok(Vec::new());
    };
    let rule = |value: &u64| {
        let equal = SeccompCmpOp::Eq;
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, equal, *value)?;
        SeccompRule::new(vec![condition])
    };
    values.iter().map(rule).collect()
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a filter that kills is tried in a child")]
mod tests {
    use super::*;

    const KINDS: [ThreadKind; 5] = [
        ThreadKind::Main,
        ThreadKind::Vcpu,
        ThreadKind::Blk,
        ThreadKind::Net,
        ThreadKind::Fs,
    ];

    fn calls(kind: ThreadKind) -> Vec<i64> {
        let mut calls: Vec<i64> = filter(kind)
            .iter()
            .copied()
            .flatten()
            .map(|allow| allow.call)
            .collect();
        calls.sort_unstable();
        calls
    }

    #[test]
    fn every_filter_compiles() {
        for kind in KINDS {
            assert!(!compile(kind).unwrap().is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn no_call_is_listed_twice_in_a_filter() {
        for kind in KINDS {
            let all = calls(kind);
            let mut once = all.clone();
            once.dedup();
            assert_eq!(all, once, "{kind:?}");
        }
    }

    #[test]
    fn no_filter_allows_executing_tracing_or_loading_code() {
        for kind in KINDS {
            for call in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_ptrace,
                libc::SYS_bpf,
                libc::SYS_fork,
                libc::SYS_vfork,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_setns,
                libc::SYS_process_vm_readv,
                libc::SYS_kill,
            ] {
                assert!(!calls(kind).contains(&call), "{kind:?} allows {call}");
            }
        }
    }

    /// The filter has at most `most` calls, and none of `forbidden`.
    fn assert_narrow(kind: ThreadKind, most: usize, forbidden: &[i64]) {
        let allowed = calls(kind);
        assert!(allowed.len() <= most, "{kind:?}: {}", allowed.len());
        for call in forbidden {
            assert!(!allowed.contains(call), "{kind:?} allows {call}");
        }
    }

    #[test]
    fn processors_open_connect_and_send_nothing_and_stay_within_their_count() {
        let unoptimised = usize::from(cfg!(debug_assertions));
        let forbidden = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_open_by_handle_at,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendmsg,
            libc::SYS_sendto,
            libc::SYS_clone,
            libc::SYS_clone3,
        ];
        assert_narrow(ThreadKind::Vcpu, 17 + unoptimised, &forbidden);
    }

    #[test]
    fn the_net_thread_opens_and_connects_nothing_and_stays_within_its_count() {
        let forbidden = [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendmsg,
            libc::SYS_sendto,
            libc::SYS_clone,
            libc::SYS_clone3,
        ];
        assert_narrow(ThreadKind::Net, 24, &forbidden);
    }

    #[test]
    fn the_fs_thread_stays_within_its_count() {
        let forbidden = [
            libc::SYS_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendmsg,
            libc::SYS_tgkill,
            libc::SYS_chroot,
            libc::SYS_clone,
            libc::SYS_clone3,
        ];
        assert_narrow(ThreadKind::Fs, 48, &forbidden);
    }

    #[test]
    fn a_call_that_is_not_listed_kills() {
        // In a child, since the whole process dies.
        // SAFETY: the child makes only async-signal-safe calls and the allocations of a single-threaded copy.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let installed = install(ThreadKind::Vcpu);
            if installed.is_ok() {
                // SAFETY: getuid has no preconditions.
                unsafe { libc::syscall(libc::SYS_getuid) };
            }
            // SAFETY: ends the child without running the parent's destructors.
            unsafe { libc::_exit(1) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writing and `pid` is our child.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS,
            "{status:#x}"
        );
    }
}
