//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value};

use crate::shares::Change;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Runs one virtual machine.

Usage: husk-vmm --config FILE [--api-socket PATH] [--lifeline]
       husk-vmm share --help

  --config FILE       the machine, as JSON (docs/config.md)
  --api-socket PATH   serve the HTTP API on this unix socket (docs/api.md)
  --lifeline          end with 137 when nobody holds the other end of standard input, a pipe, any more
  --help              print this
  --version           print the version

Exit status: 0 the guest powered off or reset; 1 internal error; 2 bad config or usage; 3 no usable KVM;
4 the guest panicked; 137 ended through the API or the lifeline, or by SIGTERM or SIGINT.

Example: husk-vmm --config sandbox.json, with
  {\"boot\": {\"kernel\": \"/boot/vmlinux\", \"cmdline\": \"console=ttyS0\"}, \"serial\": {\"mode\": \"stdio\"}}
";

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// An option is unknown or lacks its value.
    #[error("{0} (see husk-vmm --help)")]
    Option(String),
    /// `--config` is missing.
    #[error("--config is missing (see husk-vmm --help)")]
    NoConfig,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run a machine.
    Run {
        /// The config file.
        config: PathBuf,
        /// Where to serve the API.
        api_socket: Option<PathBuf>,
        /// Whether to end with standard input.
        lifeline: bool,
    },
    /// Change the shares of a machine that runs.
    Share(Change),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let usage = |error: lexopt::Error| UsageError::Option(error.to_string());
    let (mut config, mut api_socket, mut lifeline) = (None, None, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("config") => config = Some(parser.value().map_err(usage)?.into()),
            Long("api-socket") => api_socket = Some(parser.value().map_err(usage)?.into()),
            Long("lifeline") => lifeline = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Value(word) if word == "share" => {
                return Change::parse(&mut parser)
                    .map(Command::Share)
                    .map_err(usage);
            }
            Long("version") | Short('V') => return Ok(Command::Version),
            other => return Err(usage(other.unexpected())),
        }
    }
    let config = config.ok_or(UsageError::NoConfig)?;
    Ok(Command::Run {
        config,
        api_socket,
        lifeline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_understood_or_named() {
        let run = |lifeline| Command::Run {
            config: "a".into(),
            api_socket: Some("b".into()),
            lifeline,
        };
        assert_eq!(parsed(&["--config", "a", "--api-socket=b"]), Ok(run(false)));
        assert_eq!(
            parsed(&["--lifeline", "--config", "a", "--api-socket", "b"]),
            Ok(run(true))
        );
        assert_eq!(parsed(&["--help"]), Ok(Command::Help));
        for (arguments, expected) in [
            (&["--config"][..], "--config"),
            (&[], "--config is missing"),
            (&["--conifg", "a"], "--conifg"),
            (&["--config", "a", "b"], "\"b\""),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
