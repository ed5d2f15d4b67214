//! From the kernel's hand-over to a guest that can serve calls, one file a concern; and back down again.

pub(crate) mod cgroups;
pub(crate) mod mounts;
pub(crate) mod poweroff;
pub(crate) mod reaper;
pub(crate) mod root;
