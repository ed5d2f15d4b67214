//! The version of Landlock that the kernel has.
#![expect(unsafe_code, reason = "no safe crate asks for the version alone")]

/// The ABI version, if Landlock is there and on.
pub(super) fn version() -> Option<i64> {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes a null pointer and the size 0, reads nothing and creates nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    (version > 0).then_some(version)
}
