//! The whole device against a driver and real unix sockets.

mod bulk;
mod ends;
mod guest;
mod hostile;
mod opening;
