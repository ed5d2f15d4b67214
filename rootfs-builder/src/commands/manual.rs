//! `husk-rootfs manual`: manual pages and shell completion, made of the definitions of the command line when it is installed.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

use super::CommandError;

const PROGRAM: &str = "husk-rootfs";
/// Where each shell looks, below `share`.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "bash-completion/completions", "husk-rootfs"),
    (Shell::Zsh, "zsh/site-functions", "_husk-rootfs"),
    (Shell::Fish, "fish/vendor_completions.d", "husk-rootfs.fish"),
];
const PAGES: &str = "man/man1";

pub(super) fn run(share: &Path) -> Result<String, CommandError> {
    let failed = |source| CommandError::Output {
        path: share.to_owned(),
        source,
    };
    write(share).map_err(failed)?;
    Ok(String::new())
}

fn write(share: &Path) -> io::Result<()> {
    for (shell, directory, file) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
        if shell == Shell::Bash {
            script = with_hyphen(&script);
        }
        fs::create_dir_all(share.join(directory))?;
        fs::write(share.join(directory).join(file), script)?;
    }
    fs::create_dir_all(share.join(PAGES))?;
    clap_mangen::generate_to(Cli::command(), share.join(PAGES))
}

/// clap_complete 4.6 takes the hyphen in the name of a program for the end of it, in one half of the script for bash.
fn with_hyphen(script: &[u8]) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    let script = script.replace("husk__subcmd__rootfs__", "husk__rootfs__");
    script.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn bash_completes_commands_and_their_options() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let complete = |words: &str, index: usize| {
            let script = format!(
                ". {}/{}/{}; COMP_WORDS=({words}); COMP_CWORD={index}; \
                 _husk__rootfs husk-rootfs \"${{COMP_WORDS[{index}]}}\" husk-rootfs; echo \"${{COMPREPLY[@]}}\"",
                dir.path().display(),
                COMPLETIONS[0].1,
                COMPLETIONS[0].2
            );
            let out = Command::new("bash").args(["-c", &script]).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(complete("husk-rootfs unp", 1).trim(), "unpack");
        assert_eq!(complete("husk-rootfs erofs --veri", 2).trim(), "--verity");
    }

    #[test]
    fn each_command_has_a_page_with_its_examples() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let page = |name: &str| fs::read_to_string(dir.path().join(PAGES).join(name)).unwrap();
        assert!(page("husk-rootfs.1").contains("inspect"));
        let erofs = page("husk-rootfs-erofs.1");
        assert!(
            erofs.contains("verity") && erofs.contains("docker\\-archive:saved.tar"),
            "{erofs}"
        );
        assert!(
            !dir.path().join(PAGES).join("husk-rootfs-manual.1").exists(),
            "it is hidden"
        );
    }
}
