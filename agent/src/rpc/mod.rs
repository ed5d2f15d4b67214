//! The agent's two vsock ports: calls (`serve`) and standard streams (`streams`).

pub(crate) mod listen;
pub(crate) mod serve;
pub(crate) mod streams;
pub(crate) mod vsock;
