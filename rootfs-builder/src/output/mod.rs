//! What this program makes, one kind a module.

pub(crate) mod bundle;
pub(crate) mod directory;
pub(crate) mod disk;
pub(crate) mod erofs;
pub(crate) mod ext4;
pub(crate) mod initrd;
pub(crate) mod verity;
pub(crate) mod whole;
