//! How much a guest, or a client on the host, can make the socket device hold.
//!
//! In all: [`MAX_HOST_OPENED`] + [`MAX_GUEST_OPENED`] connections of a [`NARROW_WINDOW`] and [`EXTRA_WINDOWS`] bytes on top,
//! which is 12 MiB, and only while that many readers on the host stand still.

use std::time::Duration;

/// Connections that clients on the host opened. Counted apart, so that a guest cannot keep them out.
pub const MAX_HOST_OPENED: usize = 256;

/// Connections that the guest opened.
pub const MAX_GUEST_OPENED: usize = 256;

/// Bytes from the guest that are held for a slow reader on the host, per connection: what is advertised as `buf_alloc`.
pub const NARROW_WINDOW: u32 = 16 << 10;

/// The same, for connections opened while [`EXTRA_WINDOWS`] lasts.
pub const WIDE_WINDOW: u32 = 128 << 10;

/// What wide windows may have beyond narrow ones, over all connections.
pub const EXTRA_WINDOWS: u32 = 4 << 20;

/// Clients on the host that have not yet said which port they want. Further ones wait in the listener's backlog.
pub const MAX_HANDSHAKES: usize = 64;

/// Longest line of such a client: `CONNECT 4294967295\n` has 19 bytes.
pub const MAX_LINE: usize = 32;

/// Unit of time-outs. Counted only while the device runs, so that a paused machine times nothing out.
pub const TICK: Duration = Duration::from_secs(1);

/// Ticks for a client to say which port it wants.
pub const HANDSHAKE_TICKS: u64 = 5;

/// Ticks for the guest to answer a connection request.
pub const RESPONSE_TICKS: u64 = 5;

/// Resets held for want of a receive buffer. While there are as many, the guest's packets stay in its transmit queue
/// (virtio 1.2, 5.10.6.1.1).
pub const MAX_RESETS: usize = 128;

/// Largest payload of a packet to the guest. Linux refuses more.
pub const MAX_PAYLOAD: u32 = 64 << 10;

/// Most receive buffers filled by one read from a socket.
pub const MAX_BATCH: usize = 16;

/// Pieces of memory after which a read takes no further receive buffer. With the last one's (at most a queue size) it stays
/// below the kernel's limit for one call (`IOV_MAX`, 1024).
pub const MAX_PIECES: usize = 256;

/// Turns of connections between two returns to the event loop.
pub const MAX_TURNS: usize = 64;

/// First port that host connections come from. Lower ones are left to services.
pub const FIRST_HOST_PORT: u32 = 1 << 30;
