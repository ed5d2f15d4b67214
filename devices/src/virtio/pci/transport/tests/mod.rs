//! The transport and the worker against hostile and sound drivers (SECURITY.md, F4, F7).

mod bar;
mod negotiation;
mod rig;
mod serving;
