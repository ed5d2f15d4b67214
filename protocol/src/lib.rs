//! Every type that crosses a process boundary of husk, once.
//!
//! ```text
//!  husk (runtime) --- sandbox config (a JSON file) ------> husk-vmm        sandbox.rs
//!  husk (runtime) --- HTTP/1.1 + JSON, a unix socket ----> husk-vmm        vmm_api.rs
//!  husk (runtime) --- frames over vsock, CALL_PORT ------> husk-agent      rpc.rs, frame.rs
//!  husk monitor   --- raw bytes over vsock, STREAM_PORT -> husk-agent      stream.rs, then no framing
//! ```
//!
//! Both ends of a wire use the same serde type. This crate does no I/O beyond framing over `Read` and `Write`, and
//! depends on no other crate of husk.

pub mod frame;
pub mod network;
pub mod rpc;
pub mod sandbox;
pub mod stream;
pub mod vmm_api;

/// Version of the agent's calls. Both ends refuse any other version.
pub const VERSION: u32 = 3;

/// Guest vsock port on which the agent serves calls ([`rpc::Request`], framed).
pub const CALL_PORT: u32 = 1024;

/// Guest vsock port on which the agent accepts standard streams ([`stream::StreamHello`], then raw bytes).
pub const STREAM_PORT: u32 = 1025;

/// Host vsock port to which the agent connects, once, as soon as it serves. It serves that connection as one it
/// accepted on [`CALL_PORT`]: the host's first calls need no second connection. Nobody has to listen there.
pub const READY_PORT: u32 = 1026;
