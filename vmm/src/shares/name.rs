//! Names of shares.

use std::fmt;

use super::ShareError;

/// Longest name (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// One path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShareName(String);

impl ShareName {
    /// Checks `name`.
    pub(crate) fn new(name: &str) -> Result<Self, ShareError> {
        let long = name.is_empty() || name.len() > MAX_NAME;
        if long || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(ShareError::Name(name.escape_debug().to_string()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for good in ["rootfs", "...", "a b", "ä", "-", "x".repeat(255).as_str()] {
            assert_eq!(ShareName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "/",
            "a/b",
            "/a",
            "a/",
            "a\0b",
            "x".repeat(256).as_str(),
        ] {
            assert!(ShareName::new(bad).is_err(), "{bad:?}");
        }
    }
}
