//! A file that is packed beside what an image holds, as an argument.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Permissions of an extra file whose argument names none.
const DEFAULT_MODE: u32 = 0o644;

/// Permission bits that a file of an initrd may have.
const MODE_MASK: u32 = 0o7777;

/// A file to pack beside the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraFile {
    pub(crate) source: PathBuf,
    pub(crate) destination: String,
    pub(crate) mode: u32,
}

/// Why an argument of `--file` is not one.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ExtraFileError {
    #[error("'{0}' is not SRC:DST or SRC:DST:MODE (a name with a colon cannot be given)")]
    Shape(String),
    #[error("mode '{0}' is not an octal number up to 7777")]
    Mode(String),
}

impl FromStr for ExtraFile {
    type Err = ExtraFileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, mode) = match parts[..] {
            [source, destination] => (source, destination, DEFAULT_MODE),
            [source, destination, mode] => (source, destination, parse_mode(mode)?),
            _ => return Err(ExtraFileError::Shape(text.to_owned())),
        };
        if source.is_empty() || destination.is_empty() {
            return Err(ExtraFileError::Shape(text.to_owned()));
        }
        Ok(Self {
            source: source.into(),
            destination: destination.to_owned(),
            mode,
        })
    }
}

fn parse_mode(text: &str) -> Result<u32, ExtraFileError> {
    // A sign, which the standard library accepts, is no digit.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| mode & !MODE_MASK == 0)
        .ok_or_else(|| ExtraFileError::Mode(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_file_has_a_source_a_destination_and_perhaps_a_mode() {
        let plain: ExtraFile = "a/b:/etc/b".parse().unwrap();
        assert_eq!((plain.source, plain.mode), (PathBuf::from("a/b"), 0o644));
        let program: ExtraFile = "a:/bin/a:4755".parse().unwrap();
        assert_eq!(
            (program.destination.as_str(), program.mode),
            ("/bin/a", 0o4755)
        );
    }

    #[test]
    fn what_is_no_extra_file_is_refused_by_name() {
        for text in ["", "a", ":", "a:", ":/b", "a:/b:755:x"] {
            let error = text.parse::<ExtraFile>().unwrap_err();
            assert_eq!(error, ExtraFileError::Shape(text.to_owned()), "{text:?}");
        }
        for mode in ["", "8", "10000", "-1", "+755", "rwx"] {
            let error = format!("a:/b:{mode}").parse::<ExtraFile>().unwrap_err();
            assert_eq!(error, ExtraFileError::Mode(mode.to_owned()));
        }
    }
}
