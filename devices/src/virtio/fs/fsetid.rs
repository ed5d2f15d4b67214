//! The one capability that is laid down for some requests: `CAP_FSETID`, with which a write keeps set-user-id bits.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// While it lives, the thread's writes drop set-user-id and set-group-id bits, as those of the guest's users do.
pub(super) struct WithoutFsetid {
    /// What to go back to; `None` if the thread did not have it.
    before: Option<CapabilitySets>,
}

impl WithoutFsetid {
    /// Lays it down.
    pub(super) fn enter() -> io::Result<Self> {
        let before = capabilities(None)?;
        if !before.effective.contains(CapabilitySet::FSETID) {
            return Ok(Self { before: None });
        }
        let mut lowered = before;
        lowered.effective.remove(CapabilitySet::FSETID);
        set_capabilities(None, lowered)?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for WithoutFsetid {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = set_capabilities(None, before)
        {
            // The thread goes on with less than it had: safe, and some writes of root in the guest lose their bits.
            log::warn!("cannot raise CAP_FSETID again: {error}");
        }
    }
}
