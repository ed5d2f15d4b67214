//! Descriptors that the caller left open by accident. A monitor lives as long as its container: what it inherits, it
//! would keep open for that long, and engines wait for pipes to close.

#![expect(
    unsafe_code,
    reason = "close_range has no safe wrapper: only here is it known that nothing owns them"
)]

/// Closes every descriptor but the standard streams. Must be the first thing the process does.
pub(crate) fn close() {
    // SAFETY: called before anything has been opened, so no descriptor above 2 has an owner in this process.
    let outcome = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    debug_assert_eq!(outcome, 0, "close_range takes any range");
}
