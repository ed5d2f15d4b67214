//! Standard streams: raw vsock connections beside the call channel.
//!
//! The client connects to [`STREAM_PORT`](crate::STREAM_PORT), sends one framed [`StreamHello`], waits for one framed
//! [`StreamReady`], and from then on the connection carries only the stream's bytes. A half-close (`shutdown(SHUT_WR)`)
//! is the end of that direction: of standard input from the host, of standard output from the guest.
//!
//! Streams are opened before the call that uses them (`Create`, `Exec`), which names them by token. The agent
//! drops a stream that no call has named within [`CLAIM_SECONDS`].

use serde::{Deserialize, Serialize};

/// Seconds after which the agent closes a stream that no call has claimed.
pub const CLAIM_SECONDS: u64 = 30;

/// Most unclaimed streams the agent holds.
pub const MAX_UNCLAIMED: usize = 256;

/// Names the connection that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamToken(pub u64);

/// First frame of a stream connection, from the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamHello {
    /// Chosen at random by the host, unique among the streams in use.
    pub token: StreamToken,
}

/// The agent's answer: the stream waits to be claimed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamReady {}

/// The standard streams of one process, by token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stdio {
    /// A pseudo-terminal made in the guest; one connection carries both directions.
    Terminal {
        /// The connection.
        console: StreamToken,
        /// Initial window size, if known.
        size: Option<WindowSize>,
    },
    /// Pipes. A missing stream is `/dev/null`.
    Pipes {
        /// Host to guest.
        stdin: Option<StreamToken>,
        /// Guest to host.
        stdout: Option<StreamToken>,
        /// Guest to host.
        stderr: Option<StreamToken>,
    },
}

/// Size of a terminal in characters, as in `TIOCSWINSZ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}
