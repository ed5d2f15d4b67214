//! Manual pages and shell completion. Those of `husk` are made from the definitions of its command line; not by `husk` itself: what it
//! would carry for that, it would carry in every start of a container. `husk-rootfs`, which no container waits for, makes its own.

#[path = "../../../runtime/src/cli.rs"]
mod cli;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::command;

/// Where each shell looks, below `share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/husk"),
    (Shell::Zsh, "zsh/site-functions/_husk"),
    (Shell::Fish, "fish/vendor_completions.d/husk.fish"),
];

/// Writes all of them below `share`; `rootfs` is the program `husk-rootfs`.
pub(crate) fn install(share: &Path, rootfs: &Path) -> Result<()> {
    of_husk(share)?;
    command::output(Command::new(rootfs).arg("manual").arg(share)).map(drop)
}

fn of_husk(share: &Path) -> Result<()> {
    for (shell, file) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::Cli::command(), "husk", &mut script);
        let path = share.join(file);
        let dir = path.parent().context("a completion without directory")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages).with_context(|| format!("cannot create {}", pages.display()))?;
    clap_mangen::generate_to(cli::Cli::command(), &pages).context("cannot write manual pages")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        of_husk(dir.path()).unwrap();
        dir
    }

    #[test]
    fn bash_completes_commands_and_their_options() {
        let dir = installed();
        let complete = |words: &str, index: usize| {
            let script = format!(
                ". {}; COMP_WORDS=({words}); COMP_CWORD={index}; _husk husk \"${{COMP_WORDS[{index}]}}\" husk; echo \"${{COMPREPLY[@]}}\"",
                dir.path().join(COMPLETIONS[0].1).display()
            );
            let out = Command::new("bash").args(["-c", &script]).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(complete("husk cre", 1).trim(), "create");
        assert_eq!(complete("husk create --pid", 2).trim(), "--pid-file");
    }

    #[test]
    fn each_command_has_a_page_that_names_its_options() {
        let dir = installed();
        let page = |name: &str| fs::read_to_string(dir.path().join("man/man1").join(name)).unwrap();
        assert!(page("husk.1").contains("create"));
        assert!(page("husk-create.1").contains("pid\\-file"));
        assert!(!page("husk-create.1").contains("subreaper"), "it is hidden");
    }
}
