//! What can go wrong with KVM, and whether another host would help.

use std::io;

/// Result of a KVM call.
pub(crate) type Result<T> = std::result::Result<T, KvmError>;

/// A failed KVM call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    /// There is no device node.
    #[error(
        "no /dev/kvm: enable virtualization and load kvm_intel or kvm_amd (developers: cargo xtask testbed)"
    )]
    Missing,
    /// The node is there, this user may not use it.
    #[error(
        "no permission for /dev/kvm: add this user to the group kvm (developers: cargo xtask testbed)"
    )]
    Permission,
    /// It could not be opened for another reason.
    #[error("cannot open /dev/kvm (developers: cargo xtask testbed)")]
    Open(#[source] io::Error),
    /// The host's kernel is too old or limited.
    #[error("this host's KVM lacks {0}")]
    Lacks(&'static str),
    /// It stopped at guest kernel code that real virtualization hardware runs.
    #[error(
        "this host's KVM cannot run guest kernels: it stopped with an internal error \
         (suberror {suberror}); use a host with hardware virtualization \
         (developers: cargo xtask testbed)"
    )]
    CannotRunKernels {
        /// `kvm_run.internal.suberror`.
        suberror: u32,
    },
    /// A call failed.
    #[error("{call} failed")]
    Call {
        /// Name of the ioctl.
        call: &'static str,
        /// Its error.
        #[source]
        source: io::Error,
    },
}

impl KvmError {
    /// For `map_err`: names the call that failed.
    pub(super) fn call(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Call {
            call,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }

    /// Whether the host, not husk or the guest, is the reason.
    pub(crate) fn is_host(&self) -> bool {
        !matches!(self, Self::Call { .. })
    }
}
