//! Which of the variants of an image is wanted.

use std::env::consts::ARCH;
use std::fmt::{self, Display};
use std::str::FromStr;

use oci_spec::image;
use thiserror::Error;

/// An operating system and a machine, in the names of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Text that is no platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("platform '{0}' is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")]
pub(crate) struct BadPlatform(String);

impl Platform {
    /// What runs here.
    pub(crate) fn host() -> Self {
        let architecture = match ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// Whether an entry of an index is for this platform.
    pub(crate) fn is(&self, found: &image::Platform) -> bool {
        let variant = self.variant.is_none() || self.variant == *found.variant();
        self.fits(&found.os().to_string(), &found.architecture().to_string()) && variant
    }

    /// Whether a configuration is for this platform.
    pub(crate) fn fits(&self, os: &str, architecture: &str) -> bool {
        self.os == os && self.architecture == architecture
    }
}

impl FromStr for Platform {
    type Err = BadPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(BadPlatform(text.to_owned())),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(BadPlatform(text.to_owned()));
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(out, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_written_as_it_was_read() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d"] {
            assert_eq!(text.parse::<Platform>(), Err(BadPlatform(text.to_owned())));
        }
    }
}
