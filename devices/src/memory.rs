//! Guest memory, as every device sees it.

use vm_memory::{GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};

/// All of the guest's memory. Hot-plug replaces the map; a request works on the snapshot it began with.
pub type GuestMemory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One snapshot of the map.
pub type MemorySnapshot = GuestMemoryLoadGuard<GuestMemoryMmap>;
