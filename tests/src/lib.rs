//! The framework of the end-to-end tests: bundles, the `husk` command, bare machines, and the check for leaks.
//!
//! The tests run as root where KVM is (in the testbed, or on a machine that has it) against the installed `husk`. Each one is
//! wrapped in [`leaks::watched`], so that a test passes only if it has left nothing behind.

pub mod bundle;
pub mod comparison;
pub mod debian_guest;
pub mod engine;
pub mod husk;
pub mod leaks;
pub mod machine;
pub mod network;
pub mod output;
pub mod runc;
pub mod terminal;
pub mod user;
