//! Manifests, and the configurations that they name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rootfs_builder::fuzzing::manifest(bytes));
