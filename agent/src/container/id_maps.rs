//! `newuidmap` and `newgidmap`, which libcontainer runs to write more than one range of ids: this program under their
//! names. It is root, so it writes the ranges as they are.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use crate::boot::poweroff::say;

/// The directory of both names, for the helper's `PATH`.
pub(crate) const DIRECTORY: &str = "/run/husk/bin";

/// Names, and the files of `/proc/PID` that they write.
const NAMES: [(&str, &str); 2] = [("newuidmap", "uid_map"), ("newgidmap", "gid_map")];

/// Makes both names.
pub(super) fn install() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    for (name, _) in NAMES {
        match symlink("/proc/1/exe", Path::new(DIRECTORY).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The file that this program writes under the name it was called by, if that is one of these.
pub(crate) fn file(name: &str) -> Option<&'static str> {
    let name = Path::new(name).file_name()?;
    let found = NAMES.iter().find(|(known, _)| name == *known);
    found.map(|(_, file)| *file)
}

/// Writes the ranges of a process: `PID (INSIDE OUTSIDE COUNT)...`.
pub(crate) fn main(file: &str, arguments: &[String]) -> ExitCode {
    let Some((pid, numbers)) = arguments.split_first() else {
        return ExitCode::FAILURE;
    };
    match fs::write(format!("/proc/{pid}/{file}"), ranges(numbers)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!(
                "husk-agent: cannot write {file} of a container: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn ranges(numbers: &[String]) -> String {
    let lines = numbers.chunks(3).map(|range| range.join(" ") + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_the_file_and_three_numbers_make_a_line() {
        assert_eq!(file("/run/husk/bin/newgidmap"), Some("gid_map"));
        assert_eq!(file("newuidmap"), Some("uid_map"));
        assert_eq!(file("husk-agent-helper"), None);
        let numbers = ["0", "0", "1", "1", "100000", "65535"].map(str::to_owned);
        assert_eq!(ranges(&numbers), "0 0 1\n1 100000 65535\n");
    }
}
