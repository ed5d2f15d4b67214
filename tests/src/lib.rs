//! End-to-end tests of husk.
