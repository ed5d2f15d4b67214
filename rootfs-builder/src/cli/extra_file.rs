//! Files that are put into a root file system beside what its image holds, as arguments.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use thiserror::Error;

use crate::additions::{Addition, Additions, What};

/// Permissions of an extra file whose argument names none.
const DEFAULT_MODE: u32 = 0o644;

/// Permission bits that a file may have.
const MODE_MASK: u32 = 0o7777;

/// What is put into the root file system beside what the image holds
#[derive(Args, Clone, Default)]
pub(crate) struct AdditionArguments {
    /// The program that becomes /init, with the directories that it mounts: husk's agent, statically linked, an ELF file
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,

    /// Another file: SRC here becomes DST (absolute) there, with octal permissions MODE (default 644). Repeatable
    #[arg(long = "file", value_name = "SRC:DST[:MODE]")]
    pub(crate) files: Vec<ExtraFile>,
}

impl From<&AdditionArguments> for Additions {
    fn from(arguments: &AdditionArguments) -> Self {
        let files = arguments.files.iter();
        Self {
            users: Vec::new(),
            agent: arguments.agent.clone(),
            files: files.map(|file| file.0.clone()).collect(),
        }
    }
}

/// A file to put there, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraFile(pub(crate) Addition);

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
        Ok(Self(Addition {
            what: What::File(source.into()),
            destination: destination.to_owned(),
            mode,
            owner: String::new(),
        }))
    }
}

/// Octal permissions.
pub(crate) fn parse_mode(text: &str) -> Result<u32, ExtraFileError> {
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
        let ExtraFile(plain) = "a/b:/etc/b".parse().unwrap();
        assert_eq!((plain.what, plain.mode), (What::File("a/b".into()), 0o644));
        let ExtraFile(program) = "a:/bin/a:4755".parse().unwrap();
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
