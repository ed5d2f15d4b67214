//! What this program makes, one kind a module.

pub(crate) mod directory;
pub(crate) mod erofs;
pub(crate) mod initrd;
pub(crate) mod whole;
