//! The same commands through one engine with runc and with husk.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

use crate::engine::{Engine, Kind};
use crate::output::shell;

/// The reference, and what is compared with it.
const RUNTIMES: [&str; 2] = ["/usr/sbin/runc", "/usr/local/bin/husk"];

/// Where intended differences are published.
const PUBLISHED: &str = include_str!("../../docs/engines.md");

/// A story: commands that follow from each other.
#[derive(Debug)]
struct Section {
    title: String,
    /// Part of every run.
    quick: bool,
    commands: Vec<Step>,
}

#[derive(Debug, Default)]
struct Step {
    script: String,
    /// Why husk's output is meant to differ.
    differs: Option<String>,
    /// The one engine that has this command.
    only: Option<String>,
}

/// Reads a file of sections; `tests/engines/containers.txt` describes the format.
fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut next = Step::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "#" => {}
            "==" => {
                let quick = rest.strip_prefix("[quick] ");
                sections.push(Section {
                    title: quick.unwrap_or(rest).to_owned(),
                    quick: quick.is_some(),
                    commands: Vec::new(),
                });
            }
            "differs:" => next.differs = Some(rest.to_owned()),
            "only:" => next.only = Some(rest.to_owned()),
            "$" => {
                let section = sections.last_mut().context("a command before any title")?;
                rest.clone_into(&mut next.script);
                section.commands.push(std::mem::take(&mut next));
            }
            ">" => {
                let step = sections
                    .last_mut()
                    .and_then(|section| section.commands.last_mut());
                let script = &mut step.context("no command to go on with")?.script;
                write!(script, "\n{rest}")?;
            }
            _ => bail!("line {line:?} is neither title, command nor comment"),
        }
    }
    Ok(sections)
}

/// Runs the sections of `text` that are part of every run, or the others, with both runtimes, and fails with a list of all differences.
pub fn compare(kind: Kind, text: &str, quick: bool) -> Result<()> {
    let sections = parse(text)?;
    let engine = Engine::start(kind)?;
    let mut problems = String::new();
    for section in sections.iter().filter(|section| section.quick == quick) {
        let [expected, got] = RUNTIMES.map(|runtime| run(&engine, kind, section, runtime));
        let (expected, got) = (expected?, got?);
        let steps = section.commands.iter().filter(|step| step.is_for(kind));
        for (step, (expected, got)) in steps.zip(expected.iter().zip(&got)) {
            if let Some(problem) = step.judge(expected, got) {
                writeln!(
                    problems,
                    "\n{}: $ {}\n{problem}",
                    section.title, step.script
                )?;
            }
        }
    }
    ensure!(
        problems.is_empty(),
        "husk differs from runc under {}:\n{problems}",
        kind.name()
    );
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "libtest keeps what is printed from its own lines, which are counted"
)]
fn run(engine: &Engine, kind: Kind, section: &Section, runtime: &str) -> Result<Vec<String>> {
    shell("find /var/tmp/engines -mindepth 1 -maxdepth 1 ! -name '*.tar' ! -name '*.log' -exec rm -r {} +")?.ok();
    let mut answers = Vec::new();
    for step in section.commands.iter().filter(|step| step.is_for(kind)) {
        // With --nocapture both show what a slow machine is busy with.
        eprintln!("{runtime}: $ {}", step.script);
        let out = engine
            .run(runtime, &step.script)
            .with_context(|| format!("{}: $ {}", section.title, step.script))?;
        let answer = format!("{}=> {}", normalized(&out.stdout, runtime), out.status);
        eprintln!("{answer}");
        answers.push(answer);
    }
    engine.clear()?;
    Ok(answers)
}

impl Step {
    fn is_for(&self, kind: Kind) -> bool {
        self.only.as_deref().is_none_or(|only| only == kind.name())
    }

    /// What is wrong, if something is.
    fn judge(&self, expected: &str, got: &str) -> Option<String> {
        match &self.differs {
            None if expected == got => None,
            None => Some(format!("runc: {expected}\nhusk: {got}")),
            Some(reason) if !PUBLISHED.contains(reason.as_str()) => {
                Some(format!("docs/engines.md does not list: {reason}"))
            }
            Some(_) if expected == got => Some(format!("no longer differs: {got}")),
            Some(_) => None,
        }
    }
}

/// Without what differs from run to run: identifiers, and the runtime's own name in its messages.
fn normalized(text: &str, runtime: &str) -> String {
    let text = without_times(text);
    let name = runtime.rsplit('/').next().unwrap_or(runtime);
    let text = text.replace(runtime, "RUNTIME").replace(name, "RUNTIME");
    let mut normal = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let stem = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id =
            matches!(stem.len(), 12 | 64) && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        normal.push_str(if is_id { "ID" } else { stem });
        normal.push_str(&word[stem.len()..]);
    }
    normal
}

/// Log lines begin with `time="..."`.
fn without_times(text: &str) -> String {
    let mut parts = text.split("time=\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.split_once('"').map_or(part, |(_, rest)| rest);
        text + "time=TIME" + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_commands_with_their_marks() {
        let text = "# c\n== [quick] one\n$ a\n> b\n== two\ndiffers: so\nonly: docker\n$ c\n";
        let sections = parse(text).unwrap();
        assert!(sections[0].quick && !sections[1].quick);
        assert_eq!(sections[0].commands[0].script, "a\nb");
        let last = &sections[1].commands[0];
        assert_eq!(last.differs.as_deref(), Some("so"));
        assert!(last.is_for(Kind::Docker) && !last.is_for(Kind::Podman));
        assert!(parse("$ early").is_err());
        assert!(parse("== t\nnonsense here").is_err());
    }

    #[test]
    fn identifiers_and_names_are_left_out_and_nothing_else() {
        let id = "0123456789ab".repeat(5) + "0123";
        let text = format!("time=\"12:00\" Error: husk: {id}\n0123456789ab 0123456789\n");
        assert_eq!(
            normalized(&text, "/bin/husk"),
            "time=TIME Error: RUNTIME: ID\nID 0123456789\n"
        );
    }

    #[test]
    fn a_difference_counts_unless_it_is_published() {
        let mut step = Step::default();
        assert_eq!(step.judge("a", "a"), None);
        assert!(step.judge("a", "b").is_some());
        step.differs = Some("not in any document".into());
        assert!(step.judge("a", "b").unwrap().contains("does not list"));
    }
}
