//! Length-prefixed JSON: four bytes of little-endian length, then that many bytes of JSON.
//!
//! The length is checked before anything is allocated, so a hostile peer can make the other end hold at most
//! [`MAX_FRAME`] bytes.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame either end accepts, in bytes. An OCI spec with a large seccomp profile is about 100 KiB.
pub const MAX_FRAME: usize = 4 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two frames.
    #[error("connection closed")]
    Closed,
    /// The peer announced, or the caller gave, more than [`MAX_FRAME`] bytes.
    #[error("frame of {size} bytes exceeds the limit of {MAX_FRAME}")]
    TooLarge {
        /// Size of the refused frame in bytes.
        size: usize,
    },
    /// The connection failed.
    #[error("connection failed")]
    Io(#[source] io::Error),
    /// The frame is not the JSON that this end expects.
    #[error("malformed frame")]
    Json(#[source] serde_json::Error),
}

/// Writes one message as one frame.
pub fn write<T: Serialize>(mut writer: impl Write, message: &T) -> Result<(), FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Json)?;
    let size = bytes.len() - 4;
    let prefix = u32::try_from(size).ok().filter(|_| size <= MAX_FRAME);
    let prefix = prefix.ok_or(FrameError::TooLarge { size })?;
    bytes[..4].copy_from_slice(&prefix.to_le_bytes());
    writer.write_all(&bytes).map_err(FrameError::Io)
}

/// Reads one frame as one message.
pub fn read<T: DeserializeOwned>(mut reader: impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    let first = loop {
        match reader.read(&mut prefix) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome.map_err(FrameError::Io)?,
        }
    };
    if first == 0 {
        return Err(FrameError::Closed);
    }
    reader
        .read_exact(&mut prefix[first..])
        .map_err(FrameError::Io)?;
    let size = u32::from_le_bytes(prefix) as usize;
    if size > MAX_FRAME {
        return Err(FrameError::TooLarge { size });
    }
    let mut bytes = vec![0; size];
    reader.read_exact(&mut bytes).map_err(FrameError::Io)?;
    serde_json::from_slice(&bytes).map_err(FrameError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let mut wire = Vec::new();
        write(&mut wire, &("hello", 7)).unwrap();
        let back: (String, u32) = read(wire.as_slice()).unwrap();
        assert_eq!(back, ("hello".to_owned(), 7));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        let wire = u32::MAX.to_le_bytes();
        let error = read::<u32>(wire.as_slice()).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { size } if size == u32::MAX as usize));
    }

    #[test]
    fn a_truncated_frame_and_a_closed_connection_differ() {
        assert!(matches!(
            read::<u32>([].as_slice()),
            Err(FrameError::Closed)
        ));
        assert!(matches!(
            read::<u32>([5, 0].as_slice()),
            Err(FrameError::Io(_))
        ));
        assert!(matches!(
            read::<u32>([5, 0, 0, 0, b'1'].as_slice()),
            Err(FrameError::Io(_))
        ));
    }
}
