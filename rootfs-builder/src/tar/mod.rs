//! Reads tar archives as strangers make them: POSIX (ustar, PAX), GNU and the format before both, sparse files of every kind.
//!
//! A reader of its own, because what decides between two readings of an archive must be decided here: an archive that other
//! programs could read otherwise (sizes that differ between header and extension, content of a link) is refused. It reads
//! by position and holds no content: an entry says where in the archive its content lies.

mod header;
mod pax;
mod reader;
mod sparse;

pub(crate) use reader::{Entry, EntryKind, ReadAt, Reader, TarError};
pub(crate) use sparse::{Contents, Extent};
