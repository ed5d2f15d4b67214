//! Container ids: they name a directory, so what they may contain is checked before anything else happens.

use std::fmt;

/// Longest id, in bytes. A share's name, at most 255 bytes, is made from it.
const MAX_ID: usize = 200;

/// Why an id is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    /// It has no character.
    #[error("container id cannot be empty")]
    Empty,
    /// It is longer than [`MAX_ID`].
    #[error("container id of {length} bytes is longer than {MAX_ID}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// It could name something other than one directory.
    #[error(
        "invalid container ID format: {id:?} has other characters than letters, digits and _ + - ."
    )]
    Invalid {
        /// The id.
        id: String,
    },
}

/// An id that is one harmless path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    pub(crate) fn parse(id: &str) -> Result<Self, IdError> {
        if id.is_empty() {
            return Err(IdError::Empty);
        }
        if id.len() > MAX_ID {
            return Err(IdError::TooLong { length: id.len() });
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if !id.bytes().all(allowed) || id == "." || id == ".." {
            return Err(IdError::Invalid { id: id.to_owned() });
        }
        Ok(Self(id.to_owned()))
    }

    /// The id.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_leave_the_state_directory_are_refused() {
        let long = "a".repeat(MAX_ID + 1);
        for id in [
            "", ".", "..", "a/b", "/", "../x", "a\0b", "a b", "é", "a\n", &long,
        ] {
            assert!(ContainerId::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn ids_of_engines_are_accepted() {
        for id in ["a", "a.b", "x_Y+z-1", "..a", &"0123456789abcdef".repeat(4)] {
            assert_eq!(ContainerId::parse(id).unwrap().as_str(), id);
        }
    }
}
