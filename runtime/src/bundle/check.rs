//! What is wrong in a config whose fields have the right types, as far as it shows without a root file system. The words are runc's.

use oci_spec::runtime::{Process, Spec};

/// The field that is wrong, and what is.
type Checked = Result<(), (&'static str, String)>;

/// Values of `linux.rootfsPropagation`.
const PROPAGATIONS: [&str; 8] = [
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
];

/// Values of `process.oomScoreAdj` that the kernel takes.
const OOM_SCORES: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Checks a process.
pub(crate) fn check_process(process: &Process) -> Checked {
    let refused = |field, problem: &str| Err((field, problem.to_owned()));
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return refused("process.args", "args must not be empty");
    }
    if process.cwd().as_os_str().is_empty() {
        return refused("process.cwd", "Cwd property must not be empty");
    }
    if !process.cwd().is_absolute() {
        return refused("process.cwd", "Cwd must be an absolute path");
    }
    let env = process.env().as_deref().unwrap_or_default();
    if let Some(variable) = env
        .iter()
        .find(|text| !text.trim_start_matches('=').contains('='))
    {
        let problem = format!("invalid environment variable: {variable:?}");
        return Err(("process.env", problem));
    }
    if args.iter().chain(env).any(|text| text.contains('\0')) {
        return refused("process", "an argument or variable has a NUL byte");
    }
    match process.oom_score_adj() {
        Some(score) if !OOM_SCORES.contains(&score) => {
            refused("process.oomScoreAdj", "not in -1000 to 1000")
        }
        _ => Ok(()),
    }
}

/// Checks what is Linux's own.
pub(super) fn check_linux(spec: &Spec) -> Checked {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    if let Some(propagation) = linux.rootfs_propagation()
        && !propagation.is_empty()
        && !PROPAGATIONS.contains(&propagation.as_str())
    {
        let problem = format!("rootfsPropagation={propagation} is not supported");
        return Err(("linux.rootfsPropagation", problem));
    }
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespaces[..index]
            .iter()
            .any(|before| before.typ() == namespace.typ())
        {
            let problem = format!("duplicated ns {}", namespace.typ());
            return Err(("linux.namespaces", problem));
        }
    }
    Ok(())
}
