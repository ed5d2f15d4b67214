//! Messages for engines and users: one line on standard error, and one in the file that `--log` names, in the two
//! formats of runc's log that containerd and Podman parse.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::{GlobalArgs, LogFormat};
use crate::clock;

/// Where messages go.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
    debug: bool,
}

/// The log file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot log to {path}")]
pub(crate) struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// As the command line asks. Without a usable file there is nothing to do: engines learn of failures from it.
    pub(crate) fn new(global: &GlobalArgs) -> Result<Self, LogError> {
        let file = global.log.clone();
        let log = Self {
            file: file.filter(|file| file != Path::new("/dev/stderr")),
            format: global.log_format,
            debug: global.debug,
        };
        if let Some(path) = &log.file {
            let failed = |source| LogError {
                path: path.clone(),
                source,
            };
            open(path).map_err(failed)?;
        }
        Ok(log)
    }

    /// Something failed.
    pub(crate) fn error(&self, message: &str) {
        write_stderr(message);
        self.append("error", message);
    }

    /// Something was left out that the caller may miss. Standard error stays clean: it may be the container's.
    pub(crate) fn warn(&self, message: &str) {
        self.append("warning", message);
    }

    /// Something was done.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.append("debug", message);
        }
    }

    fn append(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let line = self.line(level, message);
        if let Err(error) = open(path).and_then(|mut file| file.write_all(line.as_bytes())) {
            write_stderr(&format!("cannot log to {}: {error}", path.display()));
        }
    }

    fn line(&self, level: &str, message: &str) -> String {
        let time = clock::now_rfc3339();
        let message = message.replace('\n', " ");
        match self.format {
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
            LogFormat::Json => {
                let line = Line {
                    level,
                    msg: &message,
                    time,
                };
                serde_json::to_string(&line).map_or_else(|_| String::new(), |line| line + "\n")
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o644).open(path)
}

/// To standard error, as nothing else can be written to. A user sees whose words they are; an engine, which is no terminal, puts
/// the runtime's name before them itself.
pub(crate) fn write_stderr(message: &str) {
    let mut stderr = io::stderr();
    let name = if stderr.is_terminal() { "husk: " } else { "" };
    let line = format!("{name}{}\n", message.replace('\n', " "));
    // Nothing is left to report to when standard error is closed.
    drop(stderr.write_all(line.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: LogFormat) -> Log {
        Log {
            file: None,
            format,
            debug: false,
        }
    }

    #[test]
    fn json_lines_have_the_keys_that_containerd_reads() {
        let line = log(LogFormat::Json).line("error", "no \"x\"\nhere");
        let value: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "no \"x\" here");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn text_lines_quote_the_message() {
        let line = log(LogFormat::Text).line("error", "no \"x\"");
        assert!(
            line.ends_with("level=error msg=\"no \\\"x\\\"\"\n"),
            "{line}"
        );
    }
}
