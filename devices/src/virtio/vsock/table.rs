//! The connections there are, within their limits.

use std::collections::HashMap;

use super::connection::Key;
use super::limits::{
    EXTRA_WINDOWS, FIRST_HOST_PORT, MAX_GUEST_OPENED, MAX_HOST_OPENED, NARROW_WINDOW, WIDE_WINDOW,
};
use super::link::Link;

/// Which side opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    Host,
    Guest,
}

/// All connections, by slot and by ports.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Link>>,
    vacant: Vec<usize>,
    by_key: HashMap<Key, usize>,
    host_opened: usize,
    guest_opened: usize,
    /// What wide windows have beyond narrow ones.
    extra: u32,
    /// Host ports given out so far.
    ports: u32,
}

impl Table {
    /// The window for one more connection, unless `opener` has as many as it may.
    pub(super) fn admit(&self, opener: Opener) -> Option<u32> {
        let full = match opener {
            Opener::Host => self.host_opened >= MAX_HOST_OPENED,
            Opener::Guest => self.guest_opened >= MAX_GUEST_OPENED,
        };
        let extra = self.extra.saturating_add(extra(WIDE_WINDOW));
        let wide = extra <= EXTRA_WINDOWS;
        (!full).then_some(if wide { WIDE_WINDOW } else { NARROW_WINDOW })
    }

    /// A port of the host for a connection to `guest_port`, in no use.
    pub(super) fn host_port(&mut self, guest_port: u32) -> u32 {
        loop {
            let span = u32::MAX.saturating_sub(FIRST_HOST_PORT);
            let host_port = FIRST_HOST_PORT.saturating_add(self.ports);
            self.ports = self
                .ports
                .saturating_add(1)
                .checked_rem(span)
                .unwrap_or_default();
            let key = Key {
                host_port,
                guest_port,
            };
            if !self.by_key.contains_key(&key) {
                return host_port;
            }
        }
    }

    /// Takes a connection that [`Self::admit`] allowed. Returns its slot.
    pub(super) fn insert(&mut self, link: Link) -> usize {
        let key = link.connection.key;
        let count = self.count(link.opener);
        *count = count.saturating_add(1);
        self.extra = self
            .extra
            .saturating_add(extra(link.connection.credit.window()));
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len().saturating_sub(1)
        });
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(link);
        }
        self.by_key.insert(key, slot);
        slot
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(link) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.vacant.push(slot);
        self.by_key.remove(&link.connection.key);
        self.extra = self
            .extra
            .saturating_sub(extra(link.connection.credit.window()));
        let count = self.count(link.opener);
        *count = count.saturating_sub(1);
    }

    /// The slot of a connection.
    pub(super) fn find(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    /// The connection in a slot.
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Link> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Every slot with a connection in it.
    pub(super) fn occupied(&self) -> Vec<usize> {
        self.by_key.values().copied().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether a client on the host still waits for the guest's answer.
    pub(super) fn has_requested(&self) -> bool {
        let mut links = self.slots.iter().flatten();
        links.any(|link| link.connection.is_requested())
    }

    fn count(&mut self, opener: Opener) -> &mut usize {
        match opener {
            Opener::Host => &mut self.host_opened,
            Opener::Guest => &mut self.guest_opened,
        }
    }
}

fn extra(window: u32) -> u32 {
    window.saturating_sub(NARROW_WINDOW)
}
