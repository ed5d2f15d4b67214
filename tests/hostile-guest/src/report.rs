//! The lines that the host's side of the test reads.

use std::io::Write as _;

/// Counts cases and prints their outcomes.
#[derive(Default)]
pub(crate) struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Records one case.
    pub(crate) fn case(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                say(&format!("case {name}: ok"));
            }
            Err(why) => self.fail(name, &why),
        }
    }

    /// Records a failure.
    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        say(&format!("case {name}: FAILED: {why}"));
    }

    /// The last line.
    pub(crate) fn close(&self) {
        say(&format!(
            "hostile: {} passed, {} failed",
            self.passed, self.failed
        ));
    }
}

fn say(line: &str) {
    // There is nobody to tell if the console fails: the host's side misses the line.
    let _outcome = writeln!(std::io::stdout(), "{line}");
}
