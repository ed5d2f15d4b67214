//! `husk-vmm share attach|detach`: what the runtime calls to change the shares of a running sandbox.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::ValueExt;
use lexopt::prelude::{Long, Value};

use super::{Share, ShareError, ShareName, Source, attach, detach, detach_all};
use crate::config::{self, ConfigError, load_shares};

/// What `husk-vmm share --help` prints.
pub(crate) const HELP: &str = "\
Changes the shares of a running sandbox.

Usage: husk-vmm share attach --pid PID [--read-only] [--recursive] NAME SOURCE
       husk-vmm share attach --pid PID --list FILE
       husk-vmm share detach --pid PID NAME
       husk-vmm share detach --pid PID --list FILE

  --pid PID     the sandbox's husk-vmm
  --read-only   the guest cannot write, whatever it does
  --recursive   with what is mounted below SOURCE, but for procfs, sysfs and the like
  --list FILE   many shares, as JSON: as `shares` of a file system in docs/config.md. All of them are attached, or none;
                detach takes away those that are there
  NAME          the name in the guest: one path component
  SOURCE        a directory or regular file of the host

Example: husk-vmm share attach --pid 4711 --read-only config /etc/app
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Print the help.
    Help,
    /// Add shares.
    Attach(u32, Which),
    /// Take shares away.
    Detach(u32, Which),
}

/// The shares to add or take away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// One; to be taken away it needs a name only.
    One(OneShare),
    /// Those in a file.
    List(PathBuf),
}

/// One share, as the command line has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OneShare {
    name: String,
    source: PathBuf,
    read_only: bool,
    recursive: bool,
}

impl Change {
    /// Reads the arguments behind `share`.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Self, lexopt::Error> {
        let (mut pid, mut list) = (None, None);
        let (mut read_only, mut recursive) = (false, false);
        let mut words: Vec<OsString> = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") => return Ok(Self::Help),
                Long("pid") => pid = Some(parser.value()?.parse()?),
                Long("list") => list = Some(PathBuf::from(parser.value()?)),
                Long("read-only") => read_only = true,
                Long("recursive") => recursive = true,
                Value(word) => words.push(word),
                other => return Err(other.unexpected()),
            }
        }
        let pid = pid.ok_or("--pid is missing");
        let mut words = words.into_iter();
        let verb = words.next().ok_or("share: attach or detach?")?.string()?;
        let attaches = match verb.as_str() {
            "attach" => true,
            "detach" => false,
            _ => return Err(format!("share: `{verb}` is neither attach nor detach").into()),
        };
        let which = match list {
            Some(_) if read_only || recursive => {
                return Err("--list has neither --read-only nor --recursive".into());
            }
            Some(list) => Which::List(list),
            None if (read_only || recursive) && !attaches => {
                return Err("detach has neither --read-only nor --recursive".into());
            }
            None => Which::One(OneShare {
                name: words.next().ok_or("NAME is missing")?.string()?,
                source: match attaches {
                    true => words.next().ok_or("SOURCE is missing")?.into(),
                    false => PathBuf::new(),
                },
                read_only,
                recursive,
            }),
        };
        match (words.next(), attaches) {
            (Some(word), _) => Err(lexopt::Error::UnexpectedArgument(word)),
            (None, true) => Ok(Self::Attach(pid?, which)),
            (None, false) => Ok(Self::Detach(pid?, which)),
        }
    }

    /// Does it. The process is of no other use afterwards: it stays in the sandbox's mount namespace.
    pub(crate) fn apply(&self) -> Result<(), ShareError> {
        match self {
            Self::Help => Ok(()),
            Self::Attach(pid, Which::One(one)) => attach(*pid, &[one.open()?]),
            Self::Attach(pid, Which::List(file)) => {
                let shares = load_shares(file).and_then(|list| config::shares("shares", &list));
                attach(*pid, &shares.map_err(unusable)?)
            }
            Self::Detach(pid, Which::One(one)) => detach(*pid, &ShareName::new(&one.name)?),
            Self::Detach(pid, Which::List(file)) => {
                let list = load_shares(file).map_err(unusable)?;
                let names = list.iter().map(|share| ShareName::new(&share.name));
                detach_all(*pid, &names.collect::<Result<Vec<_>, _>>()?)
            }
        }
    }
}

impl OneShare {
    fn open(&self) -> Result<Share, ShareError> {
        Ok(Share {
            name: ShareName::new(&self.name)?,
            source: Source::open(&self.source)?,
            read_only: self.read_only,
            recursive: self.recursive,
        })
    }
}

fn unusable(error: ConfigError) -> ShareError {
    ShareError::List(Box::new(error))
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
        let one = |source: &str, read_only| {
            Which::One(OneShare {
                name: "data".into(),
                source: source.into(),
                read_only,
                recursive: false,
            })
        };
        let attach = |read_only| Change::Attach(7, one("/srv", read_only));
        assert_eq!(parsed("attach --pid 7 data /srv"), Ok(attach(false)));
        assert_eq!(
            parsed("attach data /srv --read-only --pid=7"),
            Ok(attach(true))
        );
        let detach = Change::Detach(7, one("", false));
        assert_eq!(parsed("detach --pid 7 data"), Ok(detach));
        let list = || Which::List("/l".into());
        assert_eq!(
            parsed("attach --pid 7 --list /l"),
            Ok(Change::Attach(7, list()))
        );
        assert_eq!(
            parsed("detach --list=/l --pid 7"),
            Ok(Change::Detach(7, list()))
        );
        assert_eq!(parsed("--help"), Ok(Change::Help));
        for (arguments, problem) in [
            ("", "attach or detach"),
            ("attach", "NAME"),
            ("attach data /srv", "--pid"),
            ("attach --pid 7 data", "SOURCE"),
            ("attach --pid -1 data /srv", "-1"),
            ("attach --pid 7 data /srv more", "more"),
            ("detach --pid 7 --read-only data", "--read-only"),
            ("detach --pid 7 --recursive data", "--recursive"),
            ("attach --pid 7 --list /l data /srv", "data"),
            ("attach --pid 7 --list /l --read-only", "--read-only"),
            ("replace --pid 7 data", "replace"),
            ("detach --pdi 7 data", "--pdi"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(problem), "{arguments}: {error}");
        }
    }
}
