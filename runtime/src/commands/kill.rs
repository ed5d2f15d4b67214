//! `husk kill`.

use super::{CommandError, Context, Result};
use crate::cli::KillArgs;
use crate::lifecycle;
use crate::state::ContainerId;

/// Names of the signals 1 to 31, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names that are in use.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// The first and the last real-time signal, as programs see them.
const REAL_TIME: (i32, i32) = (34, 64);

pub(super) fn kill(context: &Context, args: &KillArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    // A missing container is told before a wrong signal, as by runc.
    context.root.read(&id)?;
    let signal = parse(&args.signal).ok_or_else(|| CommandError::Signal {
        text: args.signal.clone(),
    })?;
    Ok(lifecycle::kill(&context.root, &id, signal, args.all)?)
}

/// A number, or a name with or without `SIG` in any case, or `RTMIN+n`, `RTMAX-n`.
fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        // Zero asks only whether somebody is there.
        return (0..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    if let Some((_, number)) = ALIASES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (REAL_TIME.0, offset),
        (None, Some(offset)) => (REAL_TIME.1, offset),
        (None, None) => return None,
    };
    let offset: i32 = if offset.is_empty() {
        0
    } else {
        offset.parse().ok()?
    };
    let number = base.checked_add(offset)?;
    (REAL_TIME.0..=REAL_TIME.1)
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SIGTERM", libc::SIGTERM),
            ("WINCH", libc::SIGWINCH),
            ("SYS", libc::SIGSYS),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in [
            "", "65", "-1", "SIG", "NOPE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMINx",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
