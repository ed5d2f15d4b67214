//! What passed and what failed, read from the output of the standard test runner and from our own checks.

use std::fmt;

use anyhow::Result;

/// The count over a whole run.
#[derive(Default)]
pub(super) struct Tally {
    passed: usize,
    failures: Vec<String>,
    repeated: Vec<String>,
}

impl Tally {
    /// Counts one check of our own, and says why it failed.
    pub(super) fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("check {name} ... ok");
                self.passed += 1;
            }
            Err(error) => {
                println!("check {name} ... FAILED\n{error:#}");
                self.failures.push(name.to_owned());
            }
        }
    }

    /// Counts what a line of libtest's output says, if it says that one test has ended.
    pub(super) fn count(&mut self, line: &str) {
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        if outcome == "FAILED" {
            self.failures.push(name.to_owned());
        } else if outcome == "ok" || outcome.starts_with("ok <") {
            self.passed += 1;
        }
    }

    /// Counts one program that was run a second time, of which only the second counts.
    pub(super) fn repeat(&mut self, name: &str) {
        self.repeated.push(name.to_owned());
    }

    /// How many failed.
    pub(super) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// How many have been counted.
    pub(super) fn counted(&self) -> usize {
        self.passed + self.failures.len()
    }

    /// Whether something passed and nothing failed: a run of nothing proves nothing.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.passed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        for program in &self.repeated {
            writeln!(f, "repeated, since the emulator failed: {program}")?;
        }
        let (passed, failed) = (self.passed, self.failures.len());
        write!(f, "{passed} passed, {failed} failed")?;
        match self.repeated.len() {
            0 => writeln!(f),
            repeated => writeln!(f, ", {repeated} repeated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn lines_of_libtest_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test slow - should panic ... ok",
            "test c ... FAILED",
            "test d ... ignored, takes an hour",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            tally.count(line);
        }
        assert_eq!(tally.to_string(), "\nfailed: c\n2 passed, 1 failed\n");
        assert!(!tally.is_good());
    }

    #[test]
    fn what_is_repeated_is_told() {
        let mut tally = Tally::default();
        tally.repeat("machine");
        tally.count("test a ... ok");
        assert_eq!(
            tally.to_string(),
            "\nrepeated, since the emulator failed: machine\n1 passed, 0 failed, 1 repeated\n"
        );
        assert!(tally.is_good());
    }

    #[test]
    fn nothing_is_no_success() {
        assert!(!Tally::default().is_good());
    }
}
