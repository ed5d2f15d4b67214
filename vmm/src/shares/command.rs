//! `husk-vmm share attach|detach`: what the runtime calls to change the shares of a running sandbox.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::ValueExt;
use lexopt::prelude::{Long, Value};

use super::{ShareError, ShareName, attach, detach};

/// What `husk-vmm share --help` prints.
pub(crate) const HELP: &str = "\
Changes the shares of a running sandbox.

Usage: husk-vmm share attach --pid PID [--read-only] NAME SOURCE
       husk-vmm share detach --pid PID NAME

  --pid PID     the sandbox's husk-vmm
  --read-only   the guest cannot write, whatever it does
  NAME          the name in the guest: one path component
  SOURCE        a directory or regular file of the host, without what is mounted below it

Example: husk-vmm share attach --pid 4711 --read-only config /etc/app
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Print the help.
    Help,
    /// Add a share.
    Attach {
        /// Process id of the VMM.
        pid: u32,
        /// Name in the guest.
        name: String,
        /// What to share.
        source: PathBuf,
        /// Whether the guest can only read it.
        read_only: bool,
    },
    /// Take a share away.
    Detach {
        /// Process id of the VMM.
        pid: u32,
        /// Name in the guest.
        name: String,
    },
}

impl Change {
    /// Reads the arguments behind `share`.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Self, lexopt::Error> {
        let (mut pid, mut read_only) = (None, false);
        let mut words: Vec<OsString> = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") => return Ok(Self::Help),
                Long("pid") => pid = Some(parser.value()?.parse()?),
                Long("read-only") => read_only = true,
                Value(word) => words.push(word),
                other => return Err(other.unexpected()),
            }
        }
        let pid = pid.ok_or("--pid is missing");
        let mut words = words.into_iter();
        let verb = words.next().ok_or("share: attach or detach?")?.string()?;
        let name = words.next().ok_or("NAME is missing")?.string()?;
        let change = match verb.as_str() {
            "attach" => Self::Attach {
                pid: pid?,
                name,
                source: words.next().ok_or("SOURCE is missing")?.into(),
                read_only,
            },
            "detach" if read_only => return Err("detach has no --read-only".into()),
            "detach" => Self::Detach { pid: pid?, name },
            _ => return Err(format!("share: `{verb}` is neither attach nor detach").into()),
        };
        match words.next() {
            None => Ok(change),
            Some(word) => Err(lexopt::Error::UnexpectedArgument(word)),
        }
    }

    /// Does it. The process is of no other use afterwards: it stays in the sandbox's mount namespace.
    pub(crate) fn apply(&self) -> Result<(), ShareError> {
        match self {
            Self::Help => Ok(()),
            Self::Attach {
                pid,
                name,
                source,
                read_only,
            } => attach(*pid, &ShareName::new(name)?, source, *read_only),
            Self::Detach { pid, name } => detach(*pid, &ShareName::new(name)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &str) -> Result<Change, String> {
        let mut parser = lexopt::Parser::from_args(arguments.split_whitespace());
        Change::parse(&mut parser).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_are_understood_or_named() {
        let attach = |read_only| Change::Attach {
            pid: 7,
            name: "data".into(),
            source: "/srv".into(),
            read_only,
        };
        assert_eq!(parsed("attach --pid 7 data /srv"), Ok(attach(false)));
        assert_eq!(
            parsed("attach data /srv --read-only --pid=7"),
            Ok(attach(true))
        );
        let detach = Change::Detach {
            pid: 7,
            name: "data".into(),
        };
        assert_eq!(parsed("detach --pid 7 data"), Ok(detach));
        assert_eq!(parsed("--help"), Ok(Change::Help));
        for (arguments, problem) in [
            ("", "attach or detach"),
            ("attach", "NAME"),
            ("attach data /srv", "--pid"),
            ("attach --pid 7 data", "SOURCE"),
            ("attach --pid -1 data /srv", "-1"),
            ("attach --pid 7 data /srv more", "more"),
            ("detach --pid 7 --read-only data", "--read-only"),
            ("replace --pid 7 data", "replace"),
            ("detach --pdi 7 data", "--pdi"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(problem), "{arguments}: {error}");
        }
    }
}
