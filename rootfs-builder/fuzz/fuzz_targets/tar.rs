//! Archives of layers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rootfs_builder::fuzzing::tar(bytes));
