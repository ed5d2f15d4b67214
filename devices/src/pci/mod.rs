//! PCI Express as far as a guest of ours can see it: bus 0, function 0 of 32 devices, reached through ECAM only.
//!
//! ```text
//!   vCPU ── ECAM ──► root ──► ConfigSpace (image + writable masks) ──► PciFunction hooks
//!   vCPU ── BAR  ──► Bus  ──► root's window ──► PciFunction::bar_read / bar_write
//! ```
//!
//! A function declares identity, BARs and capabilities once. Decoding, sizing and moving of BARs stand in [`root`] and
//! [`bar`], so that no function can get them wrong.

pub mod address;
pub mod bar;
pub mod capability;
pub mod config_space;
pub mod function;
pub mod msix;
pub mod root;
