//! Indexes: of a layout, and nested in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rootfs_builder::fuzzing::index(bytes));
