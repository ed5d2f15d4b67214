//! The script that L1 runs: this run's facts, then `guest.sh`.

use std::path::Path;

use anyhow::Result;

use super::Testbed;
use super::shares::Share;

const GUEST: &str = include_str!("guest.sh");
/// The tag of the install prefix among the shares.
pub(super) const PREFIX_TAG: &str = "prefix";

/// The script for one run.
pub(super) fn compose(
    testbed: &Testbed,
    shares: &[Share],
    prefix: bool,
    token: &str,
) -> Result<String> {
    let here = std::env::current_dir()?;
    let shared = shares.iter().any(|share| here.starts_with(&share.dir));
    let workdir = if shared {
        here.as_path()
    } else {
        Path::new("/root")
    };
    let pairs = shares
        .iter()
        .map(|share| format!("{} {}", share.tag, quote(&share.dir.to_string_lossy())));
    let command = testbed.command.iter().map(|word| quote(word));
    Ok(format!(
        "shares=({})\nprefix={}\nworkdir={}\ncommand=({})\ntoken={}\ncounting={}\n{GUEST}",
        pairs.collect::<Vec<_>>().join(" "),
        if prefix { PREFIX_TAG } else { "" },
        quote(&workdir.to_string_lossy()),
        command.collect::<Vec<_>>().join(" "),
        quote(token),
        if testbed.count { "yes" } else { "" },
    ))
}

/// A word that the shell reads as it is.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoted_words_are_read_as_they_are() {
        for word in [
            "",
            "plain",
            "two words",
            "it's",
            "$HOME `id` \\ \"x\"\nline",
        ] {
            let script = format!("printf %s {}", quote(word));
            let out = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), word);
        }
    }
}
