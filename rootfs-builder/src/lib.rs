//! Makes what a guest boots from and what a container runs on: the whole of `husk-rootfs` but for its `main`.
//!
//! Uses no crate of husk: it takes the agent and everything else as files. An image is found (`image`), its layers are
//! verified and unpacked (`spool`, `tar`) and merged in memory (`tree`), and what comes of it is written (`output`).

mod accounts;
mod additions;
mod cli;
mod commands;
mod compression;
mod contents;
mod cpio;
mod digest;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod limits;
mod output;
mod recipe;
mod registry;
mod spool;
mod tar;
mod tree;
mod treemap;

pub use cli::Cli;
pub use commands::run;
