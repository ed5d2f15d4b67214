//! Kernel parameters (`linux.sysctl`), written once the container exists: its namespaces' own where it has some, else
//! the guest kernel's. libcontainer knows only those of namespaces, and does not say which one failed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::rpc::ErrorCode;
use serde_json::Value;

use super::Failure;

/// Most parameters of one container.
const MAX_PARAMETERS: usize = 1024;

/// Where they are; the files show what is of the namespaces of who opens them.
const DIRECTORY: &str = "/proc/sys";

/// Names and values.
pub(super) type Sysctls = BTreeMap<String, String>;

/// Takes them out of the spec. Names that the guest's kernel does not have are refused.
pub(super) fn take(spec: &mut Value) -> Result<Sysctls, Failure> {
    let linux = spec.get_mut("linux").and_then(Value::as_object_mut);
    let taken = linux.and_then(|linux| linux.remove("sysctl"));
    let Some(taken) = taken else {
        return Ok(Sysctls::new());
    };
    let invalid = |problem: String| Failure::new(ErrorCode::Invalid, problem);
    let taken: Option<Sysctls> = serde_json::from_value(taken)
        .map_err(|error| invalid(format!("linux.sysctl is not usable: {error}")))?;
    let taken = taken.unwrap_or_default();
    if taken.len() > MAX_PARAMETERS {
        let message = format!("linux.sysctl has more than {MAX_PARAMETERS} parameters");
        return Err(invalid(message));
    }
    for name in taken.keys() {
        // Network interfaces, which have parameters by name, may be in the container's namespace only.
        let exists = file(name).is_some_and(|file| name.starts_with("net") || file.is_file());
        if !exists {
            return Err(unknown(name));
        }
    }
    Ok(taken)
}

fn unknown(name: &str) -> Failure {
    let message = format!("linux.sysctl: the guest's kernel has no parameter {name:?}");
    Failure::new(ErrorCode::Invalid, message)
}

/// The file of a parameter, by the name with dots or with slashes.
fn file(name: &str) -> Option<PathBuf> {
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    let plain = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| Path::new(DIRECTORY).join(path))
}

/// Writes them, as seen from the caller's namespaces.
pub(super) fn write(sysctls: &Sysctls) -> Result<(), Failure> {
    for (name, value) in sysctls {
        let Some(file) = file(name) else {
            return Err(unknown(name));
        };
        match fs::OpenOptions::new().write(true).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown(name)),
            opened => opened
                .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
                .map_err(|error| {
                    let message =
                        format!("linux.sysctl: cannot set {name:?} to {value:?}: {error}");
                    Failure::new(ErrorCode::Invalid, message)
                })?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_taken_out_and_unknown_ones_named() {
        let mut spec = json!({"linux": {"sysctl": {"kernel.pid_max": "99", "net.no.such": "1"}}});
        let taken = take(&mut spec).unwrap();
        assert_eq!(spec, json!({"linux": {}}));
        assert_eq!(taken.len(), 2);
        for name in [
            "kernel.foo",
            "bar.baz",
            "",
            "net/../kernel/pid_max",
            "kernel",
        ] {
            let mut spec = json!({"linux": {"sysctl": {name: "1"}}});
            let failure = take(&mut spec).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Invalid);
            assert!(failure.message.contains(&format!("{name:?}")));
        }
        let unknown = Sysctls::from([("net.no.such".to_owned(), "1".to_owned())]);
        assert!(write(&unknown).unwrap_err().message.contains("net.no.such"));
    }

    #[test]
    fn a_name_with_slashes_may_have_dots() {
        let path = file("net/ipv4/conf/eth0.100/forwarding").unwrap();
        assert!(path.ends_with("conf/eth0.100/forwarding"));
        assert_eq!(
            file("vm.swappiness"),
            Some("/proc/sys/vm/swappiness".into())
        );
    }
}
